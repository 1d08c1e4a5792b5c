"""Stand-in for the servers of a first boot on loopback: a mirror over TLS, and the clouds' services.

    serve.py FOLDER CERTIFICATE KEY TOKEN

Prints one line of JSON: {"https": PORT, "http": PORT}. A file of FOLDER whose path begins with `late/`
exists from the third request on; `down/FILE` is redirected to FILE over plain http, and `up/FILE` to FILE
over TLS. The secret services return TOKEN for the access token of the metadata service, and each requires
the headers of the real service.
"""

import base64
import http.server
import json
import pathlib
import ssl
import sys
import threading

FOLDER, CERTIFICATE, KEY, TOKEN = sys.argv[1:]
ACCESS = "ya29.access-token_of.this-host"
late = {}


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        path, _, query = self.path.partition("?")
        asked = (path, *sorted(query.split("&"))) if query else (path,)
        bearer = self.headers.get("Authorization") == f"Bearer {ACCESS}"
        match asked:
            case ("/computeMetadata/v1/instance/service-accounts/default/token",):
                self.answer(self.headers.get("Metadata-Flavor") == "Google", {"access_token": ACCESS, "expires_in": 3599})
            case ("/v1/projects/prod-1/secrets/monsys-enrolment/versions/latest:access",):
                data = base64.b64encode(TOKEN.encode()).decode()
                self.answer(bearer, {"name": "latest", "payload": {"data": data}})
            case (
                "/metadata/identity/oauth2/token",
                "api-version=2018-02-01",
                "resource=https://vault.azure.net",
            ):
                self.answer(self.headers.get("Metadata") == "true", {"access_token": ACCESS, "token_type": "Bearer"})
            case ("/secrets/monsys-enrolment", "api-version=7.4"):
                self.answer(bearer, {"value": TOKEN, "attributes": {"enabled": True}})
            case _:
                self.file(path.lstrip("/"))

    def answer(self, allowed, body):
        if not allowed:
            return self.send_error(403)
        self.send(json.dumps(body, indent=2).encode())

    def file(self, name):
        way, _, rest = name.partition("/")
        if way in ("down", "up"):
            port = http_port if way == "down" else https_port
            self.send_response(302)
            self.send_header("Location", f"http{'s' * (way == 'up')}://127.0.0.1:{port}/{rest}")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        late[name] = late.get(name, 0) + 1
        if name.startswith("late/") and late[name] < 3:
            return self.send_error(503)
        path = pathlib.Path(FOLDER, name)
        if not path.is_file():
            return self.send_error(404)
        self.send(path.read_bytes())

    def send(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def serve():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    return server, server.server_address[1]


plain, http_port = serve()
secure, https_port = serve()
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(CERTIFICATE, KEY)
secure.socket = context.wrap_socket(secure.socket, server_side=True)
for server in (plain, secure):
    threading.Thread(target=server.serve_forever, daemon=True).start()
print(json.dumps({"https": https_port, "http": http_port}), flush=True)
threading.Event().wait()
