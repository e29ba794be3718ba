#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""spoil-page.py flip|drop ID DIR...: spoil one page in a chain of images.

DIR... are the images directories, the last one first, and ID is the process's.
It is a page of pagekeeper's that the last DIR has and that all before leave to
it. flip: one byte of it is turned there. drop: the first DIR forgets it. Prints
its address in hex.
"""
import struct
import sys

PAGE = 4096
MAGIC = 0x70616765
PARENT, PRESENT = 1, 4


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at += 1
        shift += 7
        if byte < 128:
            return value, at


def put_varint(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def fields(message):
    """A message of numbers alone, by field number."""
    found, at = {}, 0
    while at < len(message):
        key, at = varint(message, at)
        found[key >> 3], at = varint(message, at)
    return found


def messages(path):
    with open(path, "rb") as f:
        data = f.read()
    at = 8
    while at < len(data):
        (size,) = struct.unpack_from("<I", data, at)
        yield data[at + 4 : at + 4 + size]
        at += 4 + size


class Pagemap:
    def __init__(self, directory, ident):
        self.path = "%s/pagemap-%s.img" % (directory, ident)
        head, *rest = [fields(message) for message in messages(self.path)]
        self.entries = [(e[1], e.get(5, e[2]), e.get(4, 0)) for e in rest]
        self.head = head[1]
        self.pages = "%s/pages-%d.img" % (directory, head[1])

    def left_to_parent(self):
        return {a + i * PAGE for a, nr, flags in self.entries if flags & PARENT for i in range(nr)}

    def present(self):
        """Addresses and offsets of what is in the pages image."""
        offset = 0
        for addr, nr, flags in self.entries:
            if flags & PRESENT:
                for i in range(nr):
                    yield addr + i * PAGE, offset + i * PAGE
                offset += nr * PAGE

    def write(self, entries):
        with open(self.path, "r+b") as f:
            magic = f.read(8)
            f.seek(0)
            f.truncate()
            f.write(magic)
            for keys in [((1, self.head),)] + [((1, a), (2, nr), (4, flags), (5, nr)) for a, nr, flags in entries]:
                body = b"".join(put_varint(key << 3) + put_varint(value) for key, value in keys)
                f.write(struct.pack("<I", len(body)) + body)


def without(entries, page):
    for addr, nr, flags in entries:
        before = (page - addr) // PAGE
        if not 0 <= before < nr:
            yield addr, nr, flags
            continue
        if before:
            yield addr, before, flags
        if nr > before + 1:
            yield page + PAGE, nr - before - 1, flags


def main():
    how, ident, *directories = sys.argv[1:]
    chain = [Pagemap(directory, ident) for directory in directories]
    old = chain.pop()
    left = set.intersection(*[pagemap.left_to_parent() for pagemap in chain]) if chain else None
    with open(old.pages, "r+b") as f:
        data = f.read()
        found = [
            (addr, offset)
            for addr, offset in old.present()
            if (left is None or addr in left) and struct.unpack_from("<I", data, offset) == (MAGIC,)
        ]
        if not found:
            print("spoil-page.py: there is no such page", file=sys.stderr)
            return 1
        addr, offset = found[len(found) // 2]
        if how == "flip":
            f.seek(offset + 2000)
            f.write(bytes([data[offset + 2000] ^ 1]))
        else:
            chain[0].write(list(without(chain[0].entries, addr)))
    print("%x" % addr)
    return 0


sys.exit(main())
