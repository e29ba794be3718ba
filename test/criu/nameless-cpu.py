# SPDX-License-Identifier: GPL-2.0-only
"""nameless-cpu.py IMAGE: take the name of the processor out of a cpuinfo.img, as one has it that has no name."""
import struct
import sys

HEADER = 8  # two magic numbers, then sizes with messages
MODEL_ID = 7


def varint(data, pos):
    value = shift = 0
    while True:
        byte = data[pos]
        value |= (byte & 0x7f) << shift
        shift, pos = shift + 7, pos + 1
        if byte < 0x80:
            return value, pos


def encoded(value):
    out = b""
    while value >= 0x80:
        out, value = out + bytes([value & 0x7f | 0x80]), value >> 7
    return out + bytes([value])


def fields(data):
    """Each field: its number, where it begins, its content, where it ends."""
    pos = 0
    while pos < len(data):
        begin = pos
        key, pos = varint(data, pos)
        size, end = varint(data, pos)
        if key & 7 == 2:
            pos, end = end, end + size
        yield key >> 3, begin, data[pos:end], end
        pos = end


path = sys.argv[1]
with open(path, "rb") as image:
    whole = image.read()
message = whole[HEADER + 4:]
(_, _, entry, _), = fields(message)
parts = [entry[begin:end] for number, begin, _, end in fields(entry) if number != MODEL_ID]
if len(parts) == len(list(fields(entry))):
    print("it has none")
entry = b"".join(parts)
message = b"\x0a" + encoded(len(entry)) + entry
with open(path, "wb") as image:
    image.write(whole[:HEADER] + struct.pack("<I", len(message)) + message)
