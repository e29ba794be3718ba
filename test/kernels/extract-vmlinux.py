#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""extract-vmlinux.py VMLINUZ OUT: the kernel as an ELF file, which a boot need not unpack (emulated, that takes long)."""
import re
import subprocess
import sys

PACKED = (
    (b"\xfd7zXZ\x00", ["xz", "-dc", "--single-stream"]),
    (b"\x28\xb5\x2f\xfd", ["zstd", "-dc"]),
    (b"\x02!L\x18", ["lz4", "-dc"]),
    (b"\x1f\x8b\x08", ["gzip", "-dc"]),
)


def unpacked(image):
    for magic, command in PACKED:
        for match in re.finditer(re.escape(magic), image):
            try:
                # What follows the packed kernel is no failure.
                out = subprocess.run(command, input=image[match.start() :], capture_output=True, check=False).stdout
            except FileNotFoundError:
                print("extract-vmlinux: there is no %s here" % command[0], file=sys.stderr)
                break
            if out[:4] == b"\x7fELF":
                return out
    return None


def main():
    source, out = sys.argv[1:]
    with open(source, "rb") as f:
        kernel = unpacked(f.read())
    if kernel is None:
        print("extract-vmlinux: no kernel found in %s" % source, file=sys.stderr)
        return 1
    with open(out, "wb") as f:
        f.write(kernel)
    return 0


sys.exit(main())
