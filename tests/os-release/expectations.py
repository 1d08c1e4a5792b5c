"""The expected results of compare.py, with the rule where the readers differ.

The rules are those of os-release(5): the file is a list of shell-compatible assignments, one a
line; values are quoted and escaped as in a shell; nothing is expanded; lines that begin with "#"
are comments; of repeated keys the last counts; the text is UTF-8.
"""

NAME = "Example OS 1.2"

SHELL_ESCAPES = 'In a shell, double quotes let a backslash escape ", $, ` and itself.'
SHELL_SINGLE = "In a shell, single quotes make everything literal, backslashes too."
SHELL_SPACES = "A shell does not see spaces before an assignment or after its value."
NO_SHELL = "Beyond assignments no shell feature is supported, and nothing is expanded."
UNCLOSED = "A quote that does not close ends with its line, which then assigns nothing."

# Files of the collections where a reader deviates from the rules: file, reader, reason.
DEPARTURES = {
    "ansible_core-2.19.14/test/units/module_utils/facts/fixtures/distribution_files/ClearLinux": {
        "distro": UNCLOSED + " It rejects the complete file for a stray quote in another key.",
    },
}

# The files in cases/: the correct value, and the readers that deviate, each with its reason.
CASES = {
    "backslash-in-bare-word": {
        "is": NAME,
        "departs": {"platform": "In a shell, a backslash escapes whatever follows it."},
    },
    "backslash-that-escapes-nothing": {"is": r"Example\nOS \x1.2"},
    "backslashes-in-single-quotes": {
        "is": r"C:\\OS \$5 \"now\"",
        "departs": {"platform": SHELL_SINGLE},
    },
    "blank-file": {"is": "linux"},
    "byte-order-mark": {
        "is": NAME,
        "departs": dict.fromkeys(
            ["platform", "distro", "sh"],
            "A byte-order mark belongs to UTF-8, not to the first key.",
        ),
    },
    "comment-after-value": {
        "is": NAME,
        "departs": {"platform": "In a shell, # after a space begins a comment."},
    },
    "comment-indented": {"is": NAME},
    "comments": {"is": "Example OS #1"},
    "crlf": {
        "is": NAME,
        "departs": {"sh": "It treats the carriage return as part of the value."},
    },
    "double-quotes": {"is": "Example OS 1.2 (Old Name)"},
    "double-quotes-in-single-quotes": {"is": 'The "Example" OS'},
    "empty": {"is": "linux"},
    "empty-quotes": {"is": "linux"},
    "equals-in-value": {"is": "Example OS, key=value"},
    "escapes-in-double-quotes": {
        "is": r'The "Example" for $5 `now` C:\OS',
        "departs": {"distro": SHELL_ESCAPES},
    },
    "export": {"is": "linux", "departs": dict.fromkeys(["distro", "sh"], NO_SHELL)},
    "hash-in-bare-word": {
        "is": "Example#1",
        "departs": {"distro": "In a shell, # inside a word begins no comment."},
    },
    "leading-spaces": {"is": NAME, "departs": {"platform": SHELL_SPACES}},
    "lower-case-key": {"is": NAME, "departs": {"distro": "Keys are case-sensitive."}},
    "no-expansion": {"is": "Example $ID ${ID} $(echo no) OS", "departs": {"sh": NO_SHELL}},
    "no-final-newline": {"is": NAME},
    "no-pretty-name": {"is": "linux"},
    "no-quotes": {"is": "Example"},
    "repeated": {"is": NAME},
    "repeated-empty-last": {"is": "linux"},
    "semicolon": {"is": "Example OS; 1.2"},
    "single-quote-in-double-quotes": {"is": "It's Example OS"},
    "single-quotes": {"is": NAME},
    "spaces-around-equals": {"is": "linux"},
    "spaces-inside-quotes": {"is": "Example  OS   1.2"},
    "trailing-spaces": {"is": NAME, "departs": {"platform": SHELL_SPACES}},
    "unicode": {"is": "Пример ОС 1.2 – 例 🐧"},
    "unknown-keys": {"is": NAME},
    "unterminated-quote": {
        "is": "linux",
        "departs": dict.fromkeys(["platform", "distro", "sh"], UNCLOSED),
    },
    "unterminated-quote-elsewhere": {
        "is": NAME,
        "departs": dict.fromkeys(["distro", "sh"], UNCLOSED),
    },
}

# Files that violate the rules, so that there is no correct value, only wrong ones.
SURVIVED = {
    "bare words, which need quotes": b"PRETTY_NAME=Example OS 1.2\n",
    "quoted pieces, put together": b"PRETTY_NAME=\"Example \"'OS 1.2'\n",
    "a value over two lines": b'PRETTY_NAME="Example\nOS 1.2"\nID=example\n',
    "Latin-1": 'PRETTY_NAME="Exämple OS"\n'.encode("latin-1"),
    "UTF-16": 'PRETTY_NAME="Example OS 1.2"\n'.encode("utf-16"),
    "zero bytes": b'PRETTY_NAME="Example\0OS"\n',
    "a terminal's escape codes": b'PRETTY_NAME="\x1b[31mExample\x07 OS"\n',
    "a mebibyte of name": b'PRETTY_NAME="' + b"x" * (1 << 20) + b'"\n',
    "a mebibyte of lines": b"ID=example\n" * (1 << 17),
}

_LOST = b'PRETTY_NAME="Wrong"\n'
_FOUND = b'PRETTY_NAME="Example OS 1.2"\n'
_NAMELESS = b"ID=example\n"

# Which file counts: override is HOST_OS_RELEASE_FILE, then /etc, then /usr/lib.
FALLBACKS = {
    "the override before all": ({"override": _FOUND, "etc": _LOST, "usr": _LOST}, NAME),
    "no override": ({"etc": _FOUND, "usr": _LOST}, NAME),
    "an override without a name": ({"override": _NAMELESS, "etc": _FOUND, "usr": _LOST}, NAME),
    "/usr/lib alone": ({"usr": _FOUND}, NAME),
    "an empty /etc/os-release": ({"etc": b"", "usr": _FOUND}, NAME),
    "none has a name": ({"override": _NAMELESS, "etc": _NAMELESS, "usr": b""}, "linux"),
    "no file at all": ({}, "linux"),
}
