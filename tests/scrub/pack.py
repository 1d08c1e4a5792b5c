"""Packs and unpacks for the test: a line `OPERATION LEVEL LENGTH` and the bytes, and the same back."""

import bz2
import lzma
import sys
import zlib


def gzip(level, content):
    packer = zlib.compressobj(level, zlib.DEFLATED, 31)
    return packer.compress(content) + packer.flush()


def unpack(decoder, archive):
    # Returns all readable content, and ignores trailing bytes.
    content = b""
    try:
        for start in range(0, len(archive), 4096):
            if decoder.eof:
                break
            content += decoder.decompress(archive[start : start + 4096])
    except (OSError, lzma.LZMAError):
        pass
    return content


OPERATIONS = {
    "gzip": gzip,
    "bz2": lambda level, content: bz2.compress(content, level),
    "xz": lambda level, content: lzma.compress(content, preset=level),
    "unbz2": lambda _, archive: unpack(bz2.BZ2Decompressor(), archive),
    "unxz": lambda _, archive: unpack(lzma.LZMADecompressor(), archive),
}

while line := sys.stdin.buffer.readline():
    operation, level, length = line.decode().split()
    answer = OPERATIONS[operation](int(level), sys.stdin.buffer.read(int(length)))
    sys.stdout.buffer.write(b"%d\n" % len(answer) + answer)
    sys.stdout.buffer.flush()
