//! Compares with `openat2(2)` and `RESOLVE_IN_ROOT`, which has the same rules: the kernel is the oracle.

use std::fs::File;
use std::os::unix::fs::{MetadataExt, symlink};

use proptest::prelude::*;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use super::*;

fn opened(root: &Path, path: &Path, how: ResolveFlags) -> rustix::io::Result<(u64, u64)> {
    let folder = File::open(root).unwrap();
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let file = File::from(openat2(folder, path, flags, Mode::empty(), how)?);
    let metadata = file.metadata().unwrap();
    Ok((metadata.dev(), metadata.ino()))
}

/// What the kernel finds at `path` when `root` is `/`.
fn in_root(root: &Path, path: &Path) -> rustix::io::Result<(u64, u64)> {
    opened(
        root,
        path,
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    )
}

/// Resolves `path`, and checks that what comes of it is in the tree, leads nowhere else, and is what
/// the kernel finds.
fn check(root: &Path, path: &Path) -> PathBuf {
    let folder = RootFolder::new(root.to_owned());
    let resolved = folder.resolve(path);
    let inside = resolved.strip_prefix(root).unwrap();
    assert!(
        inside
            .components()
            .all(|part| matches!(part, Component::Normal(_))),
        "{resolved:?}"
    );
    // Whatever it is, the system follows no link on the way there.
    for name in resolved.ancestors().take_while(|it| *it != root) {
        assert!(!name.is_symlink(), "{resolved:?}: {name:?}");
    }
    if let Ok(theirs) = in_root(root, path) {
        let inside = if inside == Path::new("") {
            Path::new(".")
        } else {
            inside
        };
        let ours = opened(root, inside, ResolveFlags::NO_SYMLINKS);
        assert_eq!(ours, Ok(theirs), "{path:?} is {resolved:?}");
    }
    // A second look, at what is known by now, comes to the same.
    assert_eq!(folder.resolve(path), resolved);
    if let Some(Component::Normal(name)) = path.components().next_back() {
        let parent = folder.resolve(path.parent().unwrap());
        assert_eq!(folder.resolve_parent(path), parent.join(name));
    }
    resolved
}

/// A tree with a link of each kind; `outside` is beside its root.
fn tree() -> (tempfile::TempDir, PathBuf) {
    let scene = tempfile::tempdir().unwrap();
    let root = scene.path().join("root");
    for folder in ["etc/real", "nix/store/x", "proc", "../outside"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    for file in [
        "etc/file",
        "nix/store/x/os-release",
        "../outside/os-release",
    ] {
        File::create_new(root.join(file)).unwrap();
    }
    let outside = scene.path().join("outside");
    for (link, target) in [
        ("etc/os-release", "/nix/store/x/os-release"),
        ("etc/static", "/nix/store/x"),
        ("etc/relative", "../nix/store/x"),
        ("etc/up", "../../../../etc/real"),
        ("etc/dots", "./real/.././real/"),
        ("etc/out", outside.to_str().unwrap()),
        ("etc/out-by-dots", "../../outside"),
        ("etc/dangling", "/not/there"),
        ("etc/loop", "/etc/pool"),
        ("etc/pool", "loop"),
        ("etc/self", "/etc/self/x"),
        ("etc/slash", "/"),
        ("etc/chain", "/etc/static/../x/os-release"),
        ("var", "/etc/dangling/var"),
    ] {
        symlink(target, root.join(link)).unwrap();
    }
    (scene, root)
}

#[test]
fn a_link_is_resolved_inside_the_tree() {
    let (scene, root) = tree();
    let outside = scene.path().strip_prefix("/").unwrap().join("outside");
    let outside = outside.to_str().unwrap();
    for (path, resolved) in [
        ("/etc/os-release", "nix/store/x/os-release"),
        ("etc/os-release", "nix/store/x/os-release"),
        ("/etc/static/os-release", "nix/store/x/os-release"),
        ("/etc/relative/os-release", "nix/store/x/os-release"),
        ("/etc/chain", "nix/store/x/os-release"),
        ("/etc/static/../../../../../etc/file", "etc/file"),
        ("/etc/up", "etc/real"),
        ("/etc/dots/", "etc/real"),
        ("/etc/slash/etc/slash", ""),
        ("/", ""),
        ("/..", ""),
        ("/../../outside/os-release", "outside/os-release"),
        ("/etc/out/os-release", &format!("{outside}/os-release")),
        ("/etc/out-by-dots/os-release", "outside/os-release"),
        ("/etc/dangling", "not/there"),
        ("/var/lib/monsys", "not/there/var/lib/monsys"),
        ("/new/folder/../../../../etc/static", "nix/store/x"),
        ("/etc/file/x", "etc/file/x"),
    ] {
        assert_eq!(check(&root, Path::new(path)), root.join(resolved), "{path}");
    }
}

#[test]
fn the_last_name_may_stay_a_link() {
    let (_scene, root) = tree();
    let folder = RootFolder::new(root.clone());
    for (path, kept) in [
        ("/etc/os-release", "etc/os-release"),
        ("/etc/slash/etc/loop", "etc/loop"),
        ("/etc/static/agent.toml", "nix/store/x/agent.toml"),
        ("/etc/static/..", "nix/store"),
        ("/", ""),
    ] {
        assert_eq!(folder.resolve_parent(Path::new(path)), root.join(kept));
    }
}

#[test]
fn what_leads_nowhere_can_be_neither_read_nor_made() {
    let (_scene, root) = tree();
    for path in ["/etc/loop", "/etc/pool/x", "/etc/self", "/etc/loop/../file"] {
        let path = Path::new(path);
        assert_eq!(in_root(&root, path), Err(rustix::io::Errno::LOOP));
        let resolved = check(&root, path);
        assert!(resolved.starts_with(root.join("etc")), "{resolved:?}");
        assert_ne!(File::open(&resolved).unwrap_err().kind(), NotFound);
        assert!(fs::create_dir_all(&resolved).is_err());
        assert!(File::create_new(&resolved).is_err());
    }
}

#[test]
fn as_many_links_as_the_kernel_follows() {
    let scene = tempfile::tempdir().unwrap();
    let root = scene.path();
    File::create_new(root.join("0")).unwrap();
    for link in 1..=MOST_LINKS + 1 {
        symlink(format!("/{}", link - 1), root.join(link.to_string())).unwrap();
    }
    let last = PathBuf::from(format!("/{MOST_LINKS}"));
    in_root(root, &last).unwrap();
    assert_eq!(check(root, &last), root.join("0"));
    let more = PathBuf::from(format!("/{}", MOST_LINKS + 1));
    assert_eq!(in_root(root, &more), Err(rustix::io::Errno::LOOP));
    assert!(File::open(check(root, &more)).is_err());
}

#[tokio::test(start_paused = true)]
async fn a_folder_that_becomes_a_link_is_seen_to_be_one() {
    let (_scene, root) = tree();
    let folder = RootFolder::new(root.clone());
    let path = Path::new("/etc/real/agent.toml");
    assert_eq!(folder.resolve(path), root.join("etc/real/agent.toml"));
    fs::remove_dir(root.join("etc/real")).unwrap();
    fs::create_dir(root.join("moved")).unwrap();
    symlink("/moved", root.join("etc/real")).unwrap();
    tokio::time::advance(STEADY).await;
    assert_eq!(folder.resolve(path), root.join("moved/agent.toml"));
    check(&root, path);
}

/// A path of few names, so that most of what it names is there.
fn paths() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        6 => "[a-c]",
        2 => Just("..".to_owned()),
        1 => Just(".".to_owned()),
    ];
    let names = prop::collection::vec(name, 1..6);
    (prop::bool::ANY, names, prop::bool::ANY).prop_map(|(absolute, names, slash)| {
        let [start, end] = [absolute, slash].map(|it| if it { "/" } else { "" });
        format!("{start}{}{end}", names.join("/"))
    })
}

proptest! {
    #[test]
    fn is_what_the_kernel_finds_in_any_tree(
        folders in prop::collection::vec("[a-c](/[a-c]){0,2}", 0..6),
        links in prop::collection::vec(("([a-c]/){0,2}[a-c]", paths()), 0..10),
        asked in prop::collection::vec(paths(), 1..20),
    ) {
        let scene = tempfile::tempdir().unwrap();
        // What `..` beyond the root would find.
        for folder in ["a", "b/c", "root"] {
            fs::create_dir_all(scene.path().join(folder)).unwrap();
        }
        let root = scene.path().join("root");
        for folder in folders {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        for (link, target) in links {
            // Through the links that are there already, and only inside of the root.
            let link = RootFolder::new(root.clone()).resolve_parent(Path::new(&link));
            drop(symlink(target, link));
        }
        for path in asked {
            check(&root, Path::new(&path));
        }
    }
}
