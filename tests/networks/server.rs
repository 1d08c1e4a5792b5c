//! Real servers from Debian's packages, each with a configuration of its own, in the hub's network.

use std::fs::{self, File, Permissions};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::authority::Identity;
use crate::eventually;
use crate::network::IPV4;

/// The proxy's address, as the host knows it.
pub(crate) const SQUID: &str = "192.0.2.1:3128";

/// A server that runs until it is dropped.
pub(crate) struct Server {
    child: Child,
    folder: TempDir,
}

impl Server {
    /// Starts nginx, which terminates TLS before a hub on 127.0.0.1:8080. `http` and `location` are more
    /// lines for those sections.
    pub(crate) fn nginx(identity: &Identity, http: &str, location: &str) -> Self {
        let folder = folder(identity);
        let path = folder.path().display();
        let text = format!(
            "daemon off; master_process off; pid {path}/pid; error_log stderr;
             events {{ worker_connections 64; }}
             http {{
               access_log {path}/access.log;
               client_body_temp_path {path}/client; proxy_temp_path {path}/proxy;
               fastcgi_temp_path {path}/fastcgi; uwsgi_temp_path {path}/uwsgi;
               scgi_temp_path {path}/scgi;
               {http}
               server {{
                 listen {}:443 ssl;
                 listen [::]:443 ssl;
                 ssl_certificate {path}/certificate.pem;
                 ssl_certificate_key {path}/key.pem;
                 location / {{
                   proxy_pass http://127.0.0.1:8080;
                   proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
                   {location}
                 }}
               }}
             }}",
            IPV4.hub
        );
        let configuration = lay(&folder, "nginx.conf", &text);
        Self::start(
            folder,
            "/usr/sbin/nginx",
            &["-e", "stderr", "-c", &configuration],
            443,
        )
    }

    /// Starts haproxy, which terminates TLS before a hub on 127.0.0.1:8080.
    pub(crate) fn haproxy(identity: &Identity) -> Self {
        let folder = folder(identity);
        let path = folder.path().display();
        let text = format!(
            "defaults
               mode http
               option forwardfor
               retries 0
               timeout connect 5s
               timeout client 1m
               timeout server 1m
             frontend hosts
               bind {}:443 ssl crt {path}/both.pem
               default_backend hub
             backend hub
               server hub 127.0.0.1:8080
             ",
            IPV4.hub
        );
        let configuration = lay(&folder, "haproxy.cfg", &format!("{}\n", text.trim_end()));
        Self::start(
            folder,
            "/usr/sbin/haproxy",
            &["-db", "-f", &configuration],
            443,
        )
    }

    /// Starts squid, for every user or for one user with a password.
    pub(crate) fn squid(user: Option<(&str, &str)>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // squid writes as a user of its own.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
        let path = folder.path().display();
        let who = match user {
            Some((name, password)) => {
                let users = folder.path().join("users");
                htpasswd(&users, name, password);
                format!(
                    "auth_param basic program /usr/lib/squid/basic_ncsa_auth {}
                    acl known proxy_auth REQUIRED\nhttp_access allow known",
                    users.display()
                )
            }
            None => "http_access allow all".to_owned(),
        };
        let lines = [
            format!("http_port {SQUID}"),
            who,
            "http_access deny all".to_owned(),
            "cache deny all".to_owned(),
            format!("access_log stdio:{path}/access.log"),
            format!("cache_log {path}/cache.log"),
            format!("coredump_dir {path}"),
            "pid_filename none".to_owned(),
            "pinger_enable off".to_owned(),
            "dns_nameservers 127.0.0.1".to_owned(),
            "shutdown_lifetime 0 seconds".to_owned(),
            "visible_hostname squid.test".to_owned(),
        ];
        let text: Vec<_> = lines
            .iter()
            .flat_map(|line| line.lines().map(str::trim))
            .collect();
        let configuration = lay(&folder, "squid.conf", &format!("{}\n", text.join("\n")));
        Self::start(
            folder,
            "/usr/sbin/squid",
            &["-N", "-f", &configuration],
            3128,
        )
    }

    /// Starts a name server for the domain `test` with only these `records` (`NAME,ADDRESS`).
    pub(crate) fn dnsmasq(records: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listen = format!("--listen-address={}", IPV4.hub);
        let records: Vec<_> = records
            .iter()
            .map(|record| format!("--host-record={record}"))
            .collect();
        let mut arguments = vec![
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--pid-file=",
            "--user=root",
            "--no-resolv",
            "--no-hosts",
            "--bind-interfaces",
            "--local=/test/",
            &listen,
        ];
        arguments.extend(records.iter().map(String::as_str));
        Self::start(folder, "/usr/sbin/dnsmasq", &arguments, 53)
    }

    fn start(folder: TempDir, program: &str, arguments: &[&str], port: u16) -> Self {
        let log = File::create(folder.path().join("stderr")).unwrap();
        // The server is killed with the thread of the test, and has its own /dev/shm: squid uses fixed
        // names there.
        let wrapper = "--pdeathsig KILL unshare --mount --propagation private sh -c";
        let child = Command::new("/usr/bin/setpriv")
            .args(wrapper.split(' '))
            .arg("mount -t tmpfs tmpfs /dev/shm && exec \"$0\" \"$@\"")
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut server = Self { child, folder };
        eventually(&format!("{program} listens at port {port}"), || {
            TcpStream::connect((IPV4.hub, port)).is_ok() || server.has_ended()
        });
        let ended = server.child.try_wait().unwrap();
        assert!(
            ended.is_none(),
            "{program} {ended:?}: {}",
            server.log("stderr")
        );
        server
    }

    /// Returns whether the server has exited and is a zombie.
    fn has_ended(&self) -> bool {
        fs::read_to_string(format!("/proc/{}/stat", self.child.id()))
            .is_ok_and(|stat| stat.contains(") Z "))
    }

    /// Returns the content of a file of the server's folder.
    pub(crate) fn log(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Makes a folder with a certificate and its key, in all the forms that the servers need.
fn folder(identity: &Identity) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let Identity { certificate, key } = identity;
    lay(&folder, "certificate.pem", certificate);
    lay(&folder, "key.pem", key);
    lay(&folder, "both.pem", &format!("{certificate}{key}"));
    folder
}

fn lay(folder: &TempDir, name: &str, text: &str) -> String {
    let path = folder.path().join(name);
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn htpasswd(file: &Path, user: &str, password: &str) {
    let status = Command::new("/usr/bin/htpasswd")
        .arg("-bcm")
        .arg(file)
        .args([user, password])
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    fs::set_permissions(file, Permissions::from_mode(0o644)).unwrap();
}
