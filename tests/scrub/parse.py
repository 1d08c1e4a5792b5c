"""Reads each document before and after, as the programs do that it is for, and compares the values.

    parse.py FOLDER

FOLDER/N.before, N.after and N.token are a case. What differs has to be in a place of the token, in
whatever form the value holds it. N.truth, where it is, is what a scrubber may make of it: a case
whose truth reads as another value is ambiguous, and passed over; few may be. The last line is
`N same, M not, K ambiguous`.
"""

import base64
import bz2
import email
import gzip
import json
import lzma
import pathlib
import pickle
import quopri
import re
import subprocess
import sys
import zlib

import yaml

try:
    from cloudinit import helpers, user_data, util
    from cloudinit.config import cc_write_files
except ImportError:
    user_data = None


def message(text):
    mail = email.message_from_bytes(text)
    if not mail.is_multipart():
        raise ValueError("no parts")
    return parts(mail)


def parts(mail):
    leaves = [part for part in mail.walk() if not part.is_multipart()]
    return [(part.items(), part.get_payload(decode=True)) for part in leaves]


def unpadded(text, alphabet):
    digits = re.sub(rb"\s", b"", text).rstrip(b"=")
    if len(digits) < 16:
        raise ValueError("too short")
    return base64.b64decode(digits + b"=" * (-len(digits) % 4), altchars=alphabet, validate=True)


def zstd(archive):
    if not archive.startswith(b"\x28\xb5\x2f\xfd"):
        raise ValueError("no zstd")
    return subprocess.run(["zstd", "-dcq"], input=archive, capture_output=True, check=True).stdout


def marked(text):
    # `ci-b64:` of cloud-init: the rest is parsed separately.
    mark, rest = text.split(b":", 1)
    if mark != b"ci-b64":
        raise ValueError("no mark")
    return rest


def document(first, read):
    def reader(text):
        if not text.startswith(first):
            raise ValueError("another document")
        return read(text)

    return reader


def ordered(pairs):
    return list(pairs)


READERS = [
    document(b"#cloud-config", yaml.safe_load),
    document((b"{", b"["), lambda text: json.loads(text, object_pairs_hook=ordered)),
    document(b"\x80", lambda text: pickle.loads(text, encoding="bytes")),
    document((b"Content-Type:", b"MIME-Version:", b"From "), message),
    gzip.decompress,
    # The readable part of a truncated archive.
    lambda text: zlib.decompressobj(31).decompress(text),
    bz2.decompress,
    lzma.decompress,
    zstd,
    marked,
    lambda text: unpadded(text, b"+/"),
    lambda text: unpadded(text, b"-_"),
    lambda text: text.decode("utf-16-le").encode(),
    lambda text: text.decode("utf-16-be").encode(),
    quopri.decodestring,
]


COMPARED = {}


def same(before, after, token):
    if before == after:
        return True
    if type(before) is not type(after):
        return False
    if isinstance(before, dict):
        return same(list(before.items()), list(after.items()), token)
    if isinstance(before, (list, tuple)):
        pairs = zip(before, after, strict=False)
        return len(before) == len(after) and all(same(b, a, token) for b, a in pairs)
    if isinstance(before, str):
        before, after = (text.encode("utf-8", "surrogatepass") for text in (before, after))
    if not isinstance(before, bytes):
        # Pickled objects refer to themselves. Stored, so that no other object gets the same id.
        if (id(before), id(after)) in COMPARED:
            return True
        COMPARED[id(before), id(after)] = before, after
        return hasattr(before, "__dict__") and same(vars(before), vars(after), token)
    if len(before) == len(after):
        places = set()
        for found in re.finditer(re.escape(token), before):
            places.update(range(*found.span()))
        if all(at in places for at in range(len(before)) if before[at] != after[at]):
            return True
    for read in READERS:
        try:
            values = read(before), read(after)
        except Exception:  # noqa: BLE001 # it is not of this form
            continue
        # A reader that returns its input has decoded nothing.
        if values != (before, after) and same(*values, token):
            return True
    return False


def processed(blob):
    """What cloud-init makes of user data: its parts, and the content of the files in them."""
    paths = helpers.Paths({"cloud_dir": "/nonexistent", "run_dir": "/nonexistent"})
    found = []
    for headers, payload in parts(user_data.UserDataProcessor(paths).process(blob)):
        found.append((headers, payload))
        if payload.startswith(b"#cloud-config"):
            config = util.load_yaml(payload, {})
            for entry in config.get("write_files", []):
                ways = cc_write_files.canonicalize_extraction(entry.get("encoding"))
                try:
                    found.append(cc_write_files.extract_contents(entry["content"], ways))
                except Exception:  # noqa: BLE001 # base64url, or no padding
                    continue
    return found


def is_user_data(blob):
    return blob.startswith((b"#cloud-config", b"Content-Type:", b"\x1f\x8b"))


def reads_same(before, after, token):
    if not same(before, after, token):
        return False
    if user_data and is_user_data(before):
        return same(processed(before), processed(after), token)
    return True


def main(folder):
    same_count, differ, ambiguous = 0, 0, 0
    for case in sorted(folder.glob("*.before")):
        before = case.read_bytes()
        after = case.with_suffix(".after").read_bytes()
        token = case.with_suffix(".token").read_bytes()
        truth = case.with_suffix(".truth")
        if truth.exists() and not reads_same(before, truth.read_bytes(), token):
            ambiguous += 1
        elif reads_same(before, after, token):
            same_count += 1
        else:
            differ += 1
            print(f"{case.name}: {before[:1500]!r}\n   became {after[:1500]!r}")
    by = "with cloud-init" if user_data else "without cloud-init"
    print(f"{same_count} same, {differ} not, {ambiguous} ambiguous; {by}")
    return differ > 0 or ambiguous * 50 > same_count


sys.exit(main(pathlib.Path(sys.argv[1])))
