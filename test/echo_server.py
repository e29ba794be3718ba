#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""echo_server.py PORT FAMILY [FILE]: sends back what it gets, on each connection. FAMILY is 4, or 6: IPv6 and, in it, IPv4.
It says "ready" when it listens. FILE is locked for as long as it runs."""
import fcntl
import select
import socket
import sys


def listen(port, family):
    if family == "4":
        return socket.create_server(("", port), backlog=500)
    return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=500)


def serve(listener, got=lambda data: None):
    """For ever. got is told of all that has come and been sent back."""
    poll, peers = select.epoll(), {}
    poll.register(listener.fileno(), select.EPOLLIN)
    print("ready", flush=True)
    while True:
        for fd, _ in poll.poll():
            if fd == listener.fileno():
                peer = listener.accept()[0]
                peers[peer.fileno()] = peer
                poll.register(peer.fileno(), select.EPOLLIN)
                continue
            data = peers[fd].recv(4096)
            if data:
                peers[fd].sendall(data)
                got(data)
            else:
                poll.unregister(fd)
                peers.pop(fd).close()


def main():
    listener = listen(int(sys.argv[1]), sys.argv[2])
    if len(sys.argv) > 3:
        locked = open(sys.argv[3], "w")
        fcntl.flock(locked, fcntl.LOCK_EX)
    serve(listener)


if __name__ == "__main__":
    main()
