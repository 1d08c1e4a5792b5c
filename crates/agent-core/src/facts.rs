//! The facts about this host that the hub gets. Each fact has a fallback, so none fails an enrolment.

mod container;
pub mod fingerprint;
pub mod hostname;
pub mod interfaces;
pub(crate) mod machine;
pub mod machine_ids;
pub mod os_release;
pub mod route;

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::environment::Environment;
use crate::settings::Settings;
use crate::sourced::{Source, Sourced};
pub use interfaces::Interface;
use interfaces::{Network, limited};
use machine::MachineSize;
use route::Target;

/// The facts about the host, for the hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostFacts {
    /// Name of the host, and not of a container on it.
    pub hostname: String,
    /// `PRETTY_NAME` of the host's os-release.
    pub os_info: String,
    /// `x86_64`, `arm64`, or the kernel's machine name.
    pub architecture: String,
    /// Version of this program.
    pub agent_version: &'static str,
    /// Kernel release.
    pub kernel: String,
    /// Number of processors.
    pub cpus: usize,
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// Address of the host on the route to the hub.
    pub primary_ip: Option<IpAddr>,
    /// Network interfaces, by name.
    pub interfaces: Vec<Interface>,
}

impl HostFacts {
    /// Gathers all facts. `target` is the hub's address, for the primary address.
    #[must_use]
    pub fn gather(settings: &Settings, environment: &Environment, target: &Target) -> Self {
        let uname = nix::sys::utsname::uname().ok();
        let uname = |part: fn(&nix::sys::utsname::UtsName) -> &std::ffi::OsStr| {
            uname
                .as_ref()
                .map(|uname| part(uname).to_string_lossy().into_owned())
        };
        let (primary_ip, all) = network(environment, target);
        let count = all.len();
        let interfaces = limited(all);
        if interfaces.len() < count {
            tracing::warn!(
                "this host has {count} network interfaces: a request lists {} of them at most, those with addresses first",
                interfaces.len()
            );
        }
        let size = MachineSize::read();
        Self {
            hostname: given(&settings.hostname_file, environment, hostname::in_file)
                .unwrap_or_else(hostname::of_kernel),
            os_info: given(&settings.os_release_file, environment, os_release::in_file)
                .unwrap_or_else(|| {
                    let files = ["/etc/os-release", "/usr/lib/os-release"].map(Path::new);
                    os_release::pretty_name(files.map(|file| host_file(environment, file)))
                }),
            architecture: uname(nix::sys::utsname::UtsName::machine)
                .map_or_else(|| std::env::consts::ARCH.into(), architecture),
            agent_version: crate::VERSION,
            kernel: uname(nix::sys::utsname::UtsName::release).unwrap_or_default(),
            cpus: size.processors.unwrap_or(1),
            memory_bytes: size.memory.map_or(0, |memory| memory.total),
            primary_ip,
            interfaces,
        }
    }
}

/// Returns the fact in a file of the settings. Warns once in a run of a file that was set, and is of no use.
fn given(
    file: &Sourced<PathBuf>,
    environment: &Environment,
    read: fn(&Path) -> io::Result<String>,
) -> Option<String> {
    static WARNED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
    let error = match read(&host_file(environment, &file.value)) {
        Ok(fact) => return Some(fact),
        Err(error) => error,
    };
    let mut warned = WARNED.lock().unwrap_or_else(PoisonError::into_inner);
    if file.source != Source::Default && !warned.contains(&file.value) {
        let (source, path) = (&file.source, file.value.display());
        tracing::warn!("{source}: {path} is not used: {error}; the host's own value is sent");
        warned.push(file.value.clone());
    }
    None
}

/// Returns the path on this machine of a file with a fact of the host. `/host/etc/os-release` is a file
/// of a host that is mounted at `/host`, so its links are resolved there.
fn host_file(environment: &Environment, path: &Path) -> PathBuf {
    const PLACES: [&str; 3] = ["etc/os-release", "usr/lib/os-release", "etc/hostname"];
    let place = PLACES.iter().find(|place| path.ends_with(place));
    let mount = place.and_then(|place| path.ancestors().nth(Path::new(place).components().count()));
    match (place, mount) {
        (Some(place), Some(mount)) if mount != Path::new("/") => {
            environment.resolved_path_in(mount, place)
        }
        _ => environment.resolved_path(path),
    }
}

/// Returns the interfaces only, for a heartbeat. `target` is the hub's address.
#[must_use]
pub fn interfaces_now(environment: &Environment, target: &Target) -> Vec<Interface> {
    limited(network(environment, target).1)
}

/// Returns the primary address and the interfaces.
fn network(environment: &Environment, target: &Target) -> (Option<IpAddr>, Vec<Interface>) {
    let network = Network::now();
    let primary_ip = route::primary_ip(target);
    (
        primary_ip,
        interfaces::list(environment, network, primary_ip),
    )
}

fn architecture(machine: String) -> String {
    match machine.as_str() {
        "amd64" => "x86_64".into(),
        "aarch64" => "arm64".into(),
        _ => machine,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::IpAddr;

    use super::architecture;

    #[test]
    fn architectures_have_the_names_of_the_contract() {
        for (machine, name) in [
            ("x86_64", "x86_64"),
            ("aarch64", "arm64"),
            ("armv7l", "armv7l"),
            ("riscv64", "riscv64"),
        ] {
            assert_eq!(architecture(machine.into()), name);
        }
    }

    #[test]
    fn addresses_are_those_that_if_addrs_sees() {
        let theirs: BTreeSet<(String, IpAddr)> = if_addrs::get_if_addrs()
            .unwrap()
            .into_iter()
            .map(|interface| (interface.name.clone(), interface.ip()))
            .collect();
        let ours: BTreeSet<(String, IpAddr)> =
            super::interfaces_now(&super::Environment::real([]), &super::Target::default())
                .into_iter()
                .flat_map(|interface| {
                    let name = interface.name;
                    let named = move |ip| (name.clone(), ip);
                    interface.addresses.into_iter().map(named)
                })
                .collect();
        assert_eq!(ours, theirs);
    }
}
