"""Compares the agent's os-release reader with Python's own and with `distro`'s.

The files are those of other projects' tests (archives.txt), this host's, and the edge cases in cases/.
Each is copied to a scratch root, and `monsys-agent facts` has to agree with the other two readers. Where a
reader is known to deviate from os-release(5), expectations.py names the file, the reader and the rule; that
reader is then not compared for that file.

Prints a line for each mismatch and, last, `N passed, M failed`.
"""

import argparse
import ast
import contextlib
import json
import os
import pathlib
import platform
import re
import subprocess
import sys
import tarfile
import tempfile

import distro

from expectations import CASES, DEPARTURES, FALLBACKS, SURVIVED

HERE = pathlib.Path(__file__).parent
NO_NAME = "linux"  # the agent's value for a host whose os-release has no PRETTY_NAME


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("agent", type=pathlib.Path, help="the monsys-agent binary")
    parser.add_argument("archives", type=pathlib.Path, nargs="*", help="the files of archives.txt")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory(prefix="monsys-os-release-") as scratch:
        host = Host(arguments.agent, pathlib.Path(scratch))
        results = [
            *collected(host, arguments.archives),
            *hand_made(host),
            *survived(host),
            *fallbacks(host),
        ]
    wrong = [problem for problem in results if problem]
    print("\n".join(wrong), end="\n" if wrong else "")
    print(f"{len(results) - len(wrong)} passed, {len(wrong)} failed")
    return 1 if wrong else 0


# --- The four kinds of test. Each yields None, or a line with the fault.


def collected(host, archives):
    """Every different file of the collections: all readers agree."""
    samples, seen, unused = 0, set(), set(DEPARTURES)
    for name, data in [*this_host(), *from_archives(archives)]:
        samples += 1
        if data in seen:
            continue
        seen.add(data)
        departure = DEPARTURES.get(name, {})
        unused.discard(name)
        yield disagreement(name, host.os_info(data), readings(data), departure)
    print(f"{samples} files in the collections, {len(seen)} of them different")
    for name in sorted(unused):
        yield f"{name}: named in DEPARTURES, but no such file was read"


def hand_made(host):
    """Each file in cases/: the agent gives what is written down, and so do the other readers."""
    files = {path.name for path in (HERE / "cases").iterdir()} - {".gitattributes"}
    for name in sorted(files ^ set(CASES)):
        yield f"cases/{name}: in cases/ or in CASES, but not in both"
    for name, case in sorted(CASES.items()):
        if name not in files:
            continue
        data = (HERE / "cases" / name).read_bytes()
        readings_by_reader = {**readings(data), "sh": by_shell(HERE / "cases" / name), "the rule": case["is"]}
        yield disagreement(f"cases/{name}", host.os_info(data), readings_by_reader, case.get("departs", {}))


def survived(host):
    """What no rule covers: the agent answers all the same, with one line that can be printed."""
    for name, data in SURVIVED.items():
        answer = host.os_info(data)
        yield None if answer and answer.isprintable() else f"{name}: the agent says {answer!r}"


def fallbacks(host):
    """The order of the three places."""
    for name, (places, expected) in FALLBACKS.items():
        answer = host.os_info_of(places)
        yield None if answer == expected else f"{name}: the agent says {answer!r}, not {expected!r}"


def disagreement(name, answer, readings_by_reader, departs):
    """One line when a reader that counts says something else than the agent, or when a departure
    is named that is none."""
    problems = []
    for reader, reading in readings_by_reader.items():
        if reader in departs and reading == answer:
            problems.append(f"{reader} is named as departing, but agrees")
        if reader not in departs and reading != answer:
            problems.append(f"{reader} says {reading!r}")
    return f"{name}: the agent says {answer!r}, " + ", ".join(problems) if problems else None


# --- The readers.


class Host:
    """A scratch root and the agent in it."""

    places = {"override": "os-release", "etc": "etc/os-release", "usr": "usr/lib/os-release"}

    def __init__(self, agent, root):
        self.agent, self.root = agent, root

    def os_info(self, data):
        return self.os_info_of({"override": data})

    def os_info_of(self, files):
        for place, path in self.places.items():
            path = self.root / path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            if place in files:
                path.write_bytes(files[place])
        ran = subprocess.run(
            [self.agent, "facts", "--root", self.root, "--output", "json"],
            # With an address of the hub, the agent does not use the default one.
            env={"HOST_OS_RELEASE_FILE": "/os-release", "MONSYS_HUB_URL": "http://127.0.0.1:9"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=60,
        )
        if ran.returncode:
            sys.exit(f"monsys-agent facts: exit code {ran.returncode}: {ran.stderr.decode()}")
        return json.loads(ran.stdout)["os_info"]


def readings(data):
    """What the two Python readers find in `data`."""
    with tempfile.NamedTemporaryFile(prefix="monsys-os-release-") as file:
        file.write(data)
        file.flush()
        return {"platform": by_platform(file.name), "distro": by_distro(file.name)}


def by_platform(path):
    """`platform.freedesktop_os_release`, its own code, pointed at one file."""
    platform._os_release_candidates = (path,)
    platform._os_release_cache = None
    try:
        name = platform.freedesktop_os_release()["PRETTY_NAME"]
    except ValueError as error:
        return f"<{type(error).__name__}>"
    # `distro` invents a name if there is none.
    return NO_NAME if name in ("", "Linux") else name


def by_distro(path):
    try:
        read = distro.LinuxDistribution(
            os_release_file=path,
            distro_release_file=os.devnull,
            include_lsb=False,
            include_uname=False,
        )
        return read.os_release_attr("pretty_name") or NO_NAME
    except ValueError as error:
        return f"<{type(error).__name__}>"


def by_shell(path):
    """A POSIX shell that sources the file: only for cases/, whose content is known."""
    script = '. "$1" && printf %s "$PRETTY_NAME"'
    ran = subprocess.run(
        ["sh", "-c", script, "sh", path], env={}, capture_output=True, check=False, timeout=60
    )
    return ran.stdout.decode(errors="replace") or NO_NAME if ran.returncode == 0 else "<error>"


# --- The files.


def this_host():
    for path in Host.places.values():
        with contextlib.suppress(OSError):
            yield f"/{path}", pathlib.Path("/", path).read_bytes()


def from_archives(archives):
    for archive in archives:
        with tarfile.open(archive) as tar:
            for member in sorted(tar.getmembers(), key=lambda member: member.name):
                if "/test" in member.name and (member.isfile() or member.issym()):
                    with contextlib.suppress(KeyError):  # a link that leads out of the archive
                        yield from inside(member.name, tar.extractfile(member).read())


def inside(name, data):
    """The os-release files that one member of an archive is, or holds."""
    path = pathlib.PurePath(name)
    if path.name.startswith("os-release"):
        yield name, data
    elif path.parent.name == "distribution_files" and b"PRETTY_NAME=" in data:
        yield name, data
    elif "distribution/fixtures" in name and path.suffix == ".json":
        for file, text in json.loads(data)["input"].items():
            if file.endswith("/os-release"):
                yield f"{name}:{file}", text.encode()
    elif path.suffix == ".py" and b"PRETTY_NAME=" in data:
        for node in ast.walk(ast.parse(data)):
            text = getattr(node, "value", None)
            if isinstance(text, str) and re.search(r"^PRETTY_NAME=", text, re.MULTILINE):
                yield f"{name}:{node.lineno}", text.encode()


if __name__ == "__main__":
    sys.exit(main())
