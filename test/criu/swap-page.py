#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""swap-page.py NEW OLD stale|bad: spoil one page of a page image NEW.

stale: a page of pagekeeper's is replaced by what OLD, the page image of an
earlier round, has for it: whole, but out of date. bad: one byte is turned.
"""
import struct
import sys

PAGE = 4096
MAGIC = 0x70616765
HEAD = struct.Struct("<IIQ")


def pages(data):
    """Map a page's index to its offset and sequence number."""
    found = {}
    for offset in range(0, len(data), PAGE):
        magic, index, seq = HEAD.unpack_from(data, offset)
        if magic == MAGIC:
            found[index] = (offset, seq)
    return found


def main():
    new_path, old_path, how = sys.argv[1:]
    with open(new_path, "rb") as f:
        new = bytearray(f.read())
    with open(old_path, "rb") as f:
        old = f.read()
    old_pages = pages(old)
    for index, (offset, seq) in pages(new).items():
        old_offset, old_seq = old_pages.get(index, (0, seq))
        if old_seq == seq:
            continue
        if how == "stale":
            new[offset : offset + PAGE] = old[old_offset : old_offset + PAGE]
        else:
            new[offset + PAGE - 1] ^= 1
        with open(new_path, "wb") as f:
            f.write(new)
        return 0
    print("swap-page.py: no page is in both rounds", file=sys.stderr)
    return 1


sys.exit(main())
