#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""predicted.py KIND [NUMBER]: the programs of section 7, which says what they are for. Each prints "ready"."""
import ctypes
import mmap
import os
import socket
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import echo_server  # pylint: disable=wrong-import-position # the lines above are to be before it

MIB = 1 << 20
PAGE = 4096


def private(mib):
    """Written page by page: a mapping of its own that lives as long as the program."""
    area = mmap.mmap(-1, mib * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for at in range(0, len(area), PAGE):
        area[at:at + 8] = at.to_bytes(8, "little")
    return area


def writer(area, pages_per_second):
    """Never ends."""
    at = 0
    print("ready", flush=True)
    while True:
        for _ in range(max(1, pages_per_second // 100)):
            at = (at + 17 * PAGE) % len(area)
            area[at + 8:at + 16] = at.to_bytes(8, "little")
        time.sleep(0.01)


def plain(mib):
    writer(private(int(mib)), 1000)


def small(mib):
    """Of small pages alone."""
    area = mmap.mmap(-1, int(mib) * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    area.madvise(mmap.MADV_NOHUGEPAGE)
    for at in range(0, len(area), PAGE):
        area[at:at + 8] = at.to_bytes(8, "little")
    writer(area, 1000)


def shared(mib):
    area = mmap.mmap(-1, int(mib) * MIB)
    for at in range(0, len(area), PAGE):
        area[at:at + 8] = at.to_bytes(8, "little")
    writer(private(1), 100)


def server(port):
    """32 MiB, and answers each byte by the same."""
    area = private(32)
    listener = socket.create_server(("127.0.0.1", int(port)), backlog=1024)

    def note(data):
        area[0:1] = data[:1]

    echo_server.serve(listener, note)


def clients(port, number):
    """The other ends, outside of what is dumped."""
    peers = [socket.create_connection(("127.0.0.1", int(port))) for _ in range(int(number))]
    print("ready", flush=True)
    while True:
        for peer in peers:
            peer.sendall(b"x")
            peer.recv(1)
            time.sleep(0.001)


def untrackable(mib):
    """Asynchronous I/O writes behind the page tables: dumped in full each time."""
    context = ctypes.c_ulong(0)
    if ctypes.CDLL(None, use_errno=True).syscall(206, 8, ctypes.byref(context)):
        sys.exit(f"io_setup: {os.strerror(ctypes.get_errno())}")
    writer(private(int(mib)), 1000)


def tree(number):
    for _ in range(int(number) - 1):
        ready, done = os.pipe()
        if not os.fork():
            os.close(ready)
            area = private(8)
            os.write(done, b"x")
            os.close(done)
            os.dup2(os.open("/dev/null", os.O_WRONLY), 1)
            writer(area, 200)
        os.close(done)
        os.read(ready, 1)
        os.close(ready)
    writer(private(8), 200)


if __name__ == "__main__":
    {"plain": plain, "small": small, "shared": shared, "server": server, "clients": clients, "untrackable": untrackable,
     "tree": tree}[sys.argv[1]](*sys.argv[2:])
