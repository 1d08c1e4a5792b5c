//! Recognition of a container, whose firmware is that of the machine below it.
//!
//! The sources are those of systemd's Container Interface (<https://systemd.io/CONTAINER_INTERFACE/>), the
//! files and variables of the container managers, and the process's control groups and mounts. A machine on
//! which containers run has none of them itself: only the mounts over its own `/`, `/etc`, `/proc` and
//! `/sys/fs/cgroup` count, and only its own control group.

use crate::environment::Environment;
use crate::store::safe_read;

/// Files that a container manager makes in the container. Kubernetes' folder has the pod's credentials.
const FILES: [&str; 5] = [
    "/run/systemd/container",
    "/run/host/container-manager",
    "/.dockerenv",
    "/run/.containerenv",
    "/var/run/secrets/kubernetes.io",
];
/// Values of `$container`. A shell of a host may have a variable of this name for another purpose.
const MANAGERS: [&str; 14] = [
    "apptainer",
    "containerd",
    "docker",
    "flatpak",
    "kubernetes",
    "lxc",
    "lxc-libvirt",
    "oci",
    "podman",
    "pouch",
    "rkt",
    "singularity",
    "systemd-nspawn",
    "wsl",
];
/// Parts of the layers' paths in the options of a container's root, of Docker, containerd, Podman and CRI-O.
const LAYERS: [&str; 3] = [
    "/overlay2/",
    "/io.containerd.snapshotter.",
    "/containers/storage/",
];
/// Files that container managers mount over those of the image.
const MOUNTED_FILES: [&str; 3] = ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"];
/// Digits of a container's id in the paths of Docker, containerd, CRI-O and Podman.
const ID_DIGITS: usize = 64;

/// Returns whether this process runs in a container.
pub(super) fn is_container(environment: &Environment) -> bool {
    let text = |path: &str| safe_read::text(&environment.kernel_path(path)).unwrap_or_default();
    FILES
        .iter()
        .any(|file| environment.resolved_path(file).exists())
        || has_variable(environment)
        || is_first_process_in_container(environment)
        || text("/proc/self/cgroup").lines().any(|line| {
            let group = line.splitn(3, ':').nth(2);
            group.is_some_and(is_container_group)
        })
        || text("/proc/self/mountinfo").lines().any(is_container_mount)
}

/// Returns whether the process's own environment names a container manager, or is that of a pod.
fn has_variable(environment: &Environment) -> bool {
    environment.env("KUBERNETES_SERVICE_HOST").is_some()
        || environment
            .env("container")
            .and_then(|value| value.to_str())
            .is_some_and(|value| MANAGERS.contains(&value))
}

/// Returns whether the first process has `$container`, which only root may read.
fn is_first_process_in_container(environment: &Environment) -> bool {
    let path = environment.kernel_path("/proc/1/environ");
    let bytes = safe_read::bytes(&path).unwrap_or_default();
    bytes
        .split(|byte| *byte == 0)
        .filter_map(|variable| variable.strip_prefix(b"container="))
        .any(|value| !value.is_empty())
}

/// Returns whether a control group is that of a container (cgroups(7)).
fn is_container_group(path: &str) -> bool {
    let names: Vec<&str> = path.split('/').filter(|name| !name.is_empty()).collect();
    let is_in_lxc = names.windows(2).any(|pair| pair[0] == "lxc");
    is_in_lxc
        || names.iter().any(|name| {
            // Podman's conmon(8) has a group with the container's id, and runs outside of it.
            (has_id(name) && !name.starts_with("libpod-conmon-"))
                || *name == "kubepods"
                || name.starts_with("kubepods.slice")
                || name.starts_with("kubepods-")
                || *name == ".lxc"
                || name.starts_with("lxc.payload")
        })
}

/// Returns whether a line of `/proc/self/mountinfo` (proc(5)) is a mount that a container manager makes.
fn is_container_mount(line: &str) -> bool {
    let Some((before, after)) = line.split_once(" - ") else {
        return false;
    };
    let mut fields = before.split(' ').skip(3);
    let (Some(root), Some(place)) = (fields.next(), fields.next()) else {
        return false;
    };
    let kind = after.split(' ').next().unwrap_or_default();
    let options = after.split(' ').nth(2).unwrap_or_default();
    let is_pod_hosts = || root.contains("/pods/") && root.ends_with("/etc-hosts");
    match place {
        "/" => kind.contains("overlay") && LAYERS.iter().any(|part| options.contains(part)),
        _ if MOUNTED_FILES.contains(&place) => has_id(root) || is_pod_hosts(),
        _ if place.starts_with("/proc/") => kind == "fuse.lxcfs",
        _ if place.starts_with("/sys/fs/cgroup") => {
            kind.starts_with("cgroup") && is_container_group(root)
        }
        _ => false,
    }
}

/// Returns whether a path has the id of a container.
fn has_id(path: &str) -> bool {
    path.split(|c: char| !c.is_ascii_hexdigit())
        .any(|digits| digits.len() == ID_DIGITS)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests lay out machines")]
mod tests {
    use std::fs;

    use super::*;

    const ID: &str = "eb73c7e77e65728c3932b1017cc28bd0eb73c7e77e65728c3932b1017cc28bd0";

    /// Returns a machine with these files below `/`, and these variables.
    fn on(files: &[(&str, &str)], variables: &[(&str, &str)]) -> bool {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text.replace("ID", ID)).unwrap();
        }
        let environment = Environment::real([])
            .with_root(root.path())
            .with_kernel(root.path())
            .with_variables(variables.iter().copied());
        is_container(&environment)
    }

    #[test]
    fn files_and_variables_of_container_managers_are_recognised() {
        for file in FILES {
            assert!(on(&[(&file[1..], "")], &[]), "{file}");
        }
        for variables in [
            ("container", "lxc"),
            ("container", "oci"),
            ("container", "podman"),
            ("KUBERNETES_SERVICE_HOST", "10.0.0.1"),
        ] {
            assert!(on(&[], &[variables]), "{variables:?}");
        }
        for environ in [
            "container=lxc\0TERM=linux\0",
            "A=b\0container=systemd-nspawn\0",
        ] {
            assert!(on(&[("proc/1/environ", environ)], &[]), "{environ:?}");
        }
    }

    #[test]
    fn control_groups_and_mounts_of_containers_are_recognised() {
        for group in [
            "12:pids:/docker/ID",
            "0::/system.slice/docker-ID.scope",
            "5:memory:/kubepods/burstable/pod85401dd3-38cd-47b6-a90a-e16c0e1c06e6/ID",
            "0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod85401dd3.slice/cri-containerd-ID.scope",
            "0::/kubepods.slice/kubepods-burstable.slice/crio-ID.scope",
            "0::/machine.slice/libpod-ID.scope/container",
            "4:devices:/ecs/4d8f/ID",
            "9:cpuset:/lxc/web-1",
            "0::/lxc.payload.web-1/system.slice/monsys-agent.service",
            "0::/.lxc",
        ] {
            assert!(on(&[("proc/self/cgroup", group)], &[]), "{group}");
        }
        for mount in [
            "1076 961 0:286 / / rw,relatime master:250 - overlay overlay rw,lowerdir=/var/lib/docker/overlay2/l/5D46:/var/lib/docker/overlay2/l/TSSP,upperdir=/var/lib/docker/overlay2/376c/diff",
            "473 387 0:143 / / rw,relatime - overlay overlay rw,lowerdir=/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/7/fs,upperdir=/x",
            "473 387 0:143 / / rw,relatime - overlay overlay rw,lowerdir=/var/lib/containers/storage/overlay/l/A,upperdir=/y",
            "473 387 0:143 / / rw - fuse.fuse-overlayfs fuse-overlayfs rw,lowerdir=/home/ada/.local/share/containers/storage/overlay/l/A",
            "505 496 254:1 /var/lib/docker/containers/ID/hostname /etc/hostname rw,relatime - ext4 /dev/vda1 rw",
            "505 496 254:1 /lib/containerd/io.containerd.grpc.v1.cri/sandboxes/ID/resolv.conf /etc/resolv.conf rw - ext4 /dev/vda2 rw",
            "505 496 0:24 /containers/storage/overlay-containers/ID/userdata/hostname /etc/hostname rw - tmpfs tmpfs rw",
            "505 496 254:1 /var/lib/kubelet/pods/85401dd3-38cd-47b6-a90a-e16c0e1c06e6/etc-hosts /etc/hosts rw - ext4 /dev/vda1 rw",
            "120 110 0:49 /proc/meminfo /proc/meminfo rw,nosuid - fuse.lxcfs lxcfs rw",
            "741 740 0:29 /docker/ID /sys/fs/cgroup/systemd ro,nosuid master:11 - cgroup cgroup rw,xattr,name=systemd",
            "741 740 0:29 /kubepods.slice/kubepods-pod1.slice /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw",
        ] {
            assert!(on(&[("proc/self/mountinfo", mount)], &[]), "{mount}");
        }
    }

    #[test]
    fn a_machine_on_which_containers_run_is_not_a_container() {
        let groups = "1:name=systemd:/system.slice/monsys-agent.service\n0::/system.slice/docker.service\n\
             5:memory:/process_api/eb73c7e77e65728c3932b1017cc28bd0\n0::/\n0::/lxc.monitor.web-1\n\
             0::/machine.slice/libpod-conmon-ID.scope\n0::/user.slice/user-0.slice/session-1.scope\n";
        let mounts = "22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n\
             23 1 0:40 / / rw - overlay overlay rw,lowerdir=/lower,upperdir=/run/overlay/upper\n\
             24 22 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n\
             90 22 0:44 / /var/lib/docker/overlay2/ID/merged rw - overlay overlay rw,lowerdir=/var/lib/docker/overlay2/l/A\n\
             91 22 0:45 / /run/containerd/io.containerd.runtime.v2.task/k8s.io/ID/rootfs rw - overlay overlay rw,lowerdir=/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/1/fs\n\
             92 22 0:46 / /var/lib/kubelet/pods/8540/volumes/kubernetes.io~projected/token rw - tmpfs tmpfs rw\n\
             93 22 0:47 / /var/lib/lxcfs rw,nosuid - fuse.lxcfs lxcfs rw\n\
             94 22 0:24 /NetworkManager/resolv.conf /etc/resolv.conf rw - tmpfs tmpfs rw\n\
             a line of another kernel\n";
        let files = [
            ("proc/self/cgroup", groups),
            ("proc/self/mountinfo", mounts),
            ("proc/1/environ", "PATH=/bin\0container=\0containers=x\0"),
        ];
        assert!(!on(
            &files,
            &[
                ("container", "a-box-of-mine"),
                ("KUBECONFIG", "/root/config")
            ]
        ));
    }
}
