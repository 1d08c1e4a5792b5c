"""Signs the calls of schemathesis, so that accepted calls are checked too.

The operator's calls carry the admin token. A host's calls need a token of their own and a
signature over the bytes that are sent: if a call still carries the admin token and some
signature, the hook replaces both. If schemathesis has changed or removed them, the call is
sent as it is.
"""

import base64
import hashlib
import json
import os
import uuid
from datetime import UTC, datetime

import requests
import schemathesis
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

ADMIN = {"Authorization": f"Bearer {os.environ['MOCK_HUB_ADMIN_TOKEN']}"}
SIGNATURE = "X-Monsys-Signature"


class Host(requests.auth.AuthBase):
    """A host with its key. It signs a request as the last step before the request is sent."""

    def __init__(self, hub):
        self.hub = hub
        self.key = Ed25519PrivateKey.generate()
        self.public = base64.b64encode(self.key.public_key().public_bytes_raw()).decode()
        self.token = None

    def __call__(self, request):
        headers = request.headers
        if headers.get("Authorization") == ADMIN["Authorization"] and SIGNATURE in headers:
            headers["Authorization"] = f"Bearer {self.token}"
            headers[SIGNATURE] = self.sign(request.body or b"")
        return request

    def sign(self, body):
        body = body.encode() if isinstance(body, str) else body
        return base64.b64encode(self.key.sign(hashlib.sha256(body).digest())).decode()

    def operate(self, path, body=None):
        """Makes an operator's call for this host."""
        answer = requests.post(f"{self.hub}/api/v1/{path}", json=body, headers=ADMIN)
        return answer.json() if answer.ok and answer.content else None

    def create_token(self):
        body = {"name": "schemathesis", "ttl_secs": 3600, "max_uses": 2, "default_tags": ["t"]}
        self.token = self.operate("enrolment-tokens", body)["token"]

    def become(self, agent_id):
        """Takes over the agent of this id, or a new one if there is none. Returns the id."""
        rotated = self.operate(f"agents/{agent_id}/rotate-token")
        if rotated is None:
            made = self.operate("agents", {})
            agent_id, self.token = made["agent_id"], made["token"]
        else:
            self.operate(f"agents/{agent_id}/rotate-signing-key")
            self.token = rotated["token"]
        self.register("register")
        return agent_id

    def register(self, call):
        texts = dict.fromkeys(["hostname", "os_info", "architecture", "agent_version"], "1")
        body = json.dumps({**texts, "signing_pubkey": self.public}).encode()
        headers = {
            "Authorization": f"Bearer {self.token}",
            "Content-Type": "application/json",
            SIGNATURE: self.sign(body),
        }
        requests.post(f"{self.hub}/api/v1/agents/{call}", data=body, headers=headers).raise_for_status()


@schemathesis.hook
def before_call(context, case, kwargs):
    """Makes a host for a host's call."""
    call = case.operation.definition.raw.get("operationId")
    if call not in ("enrol", "register", "readmit", "heartbeat", "unenrol"):
        return
    host = Host(case.operation.base_url)
    if call == "readmit":  # its receipt is invented: only the key has to be valid
        if isinstance(case.body, dict) and is_key(case.body.get("signing_pubkey")):
            case.body["signing_pubkey"] = host.public
        return
    if call == "enrol":
        host.create_token()
        if case.id[0].isdigit():
            host.register("enrol")  # so that some enrolments are a host's second: 200
    elif call == "register":
        host.token = host.operate("agents", {})["token"]
    elif is_uuid(case.path_parameters.get("id")):
        case.path_parameters["id"] = host.become(case.path_parameters["id"])
    if isinstance(case.body, dict) and is_moment(case.body.get("captured_at")):
        case.body["captured_at"] = datetime.now(UTC).isoformat()  # any other is 409
    if isinstance(case.body, dict) and is_key(case.body.get("signing_pubkey")):
        case.body["signing_pubkey"] = host.public
    kwargs["auth"] = host


def is_uuid(text):
    try:
        return str(uuid.UUID(text)) == text
    except (AttributeError, TypeError, ValueError):
        return False


def is_moment(text):
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except (TypeError, ValueError):
        return False


def is_key(text):
    try:
        return len(base64.b64decode(text, validate=True)) == 32
    except (TypeError, ValueError):
        return False
