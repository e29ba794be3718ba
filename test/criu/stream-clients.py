#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""stream-clients.py HOST[,HOST...] PORT NUMBER STOP: connections to a server that sends back what it gets. Bytes go both ways all the
time, and each has to come back in the order that they were sent in. Now and then a line tells how many have come on the
connection that has got least. Once there is a file STOP no more are sent; what is on its way still has to come."""
import os
import select
import socket
import sys
import time

CHUNK, ON_THE_WAY, PATIENCE_S, REPORT_S = 100, 2000, 20, 0.2


def expected(start, size):
    return bytes((start + i) % 251 for i in range(size))


class Client:
    def __init__(self, host, port):
        self.socket = socket.create_connection((host, port))
        self.socket.setblocking(False)
        self.sent = self.got = 0
        self.last, self.longest_s = time.monotonic(), 0.0

    def fileno(self):
        return self.socket.fileno()

    def send(self):
        if self.sent - self.got >= ON_THE_WAY:
            return
        try:
            self.sent += self.socket.send(expected(self.sent, CHUNK))
        except BlockingIOError:
            pass

    def receive(self):
        data = self.socket.recv(65536)
        assert data, "the connection was closed"
        assert data == expected(self.got, len(data)), "other bytes than were sent"
        self.got += len(data)
        now = time.monotonic()
        self.longest_s, self.last = max(self.longest_s, now - self.last), now


def main():
    hosts, port, number, stop = sys.argv[1].split(","), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    clients = [Client(hosts[i % len(hosts)], port) for i in range(number)]
    print("ready", flush=True)
    end, reported = None, 0.0
    while end is None or any(client.sent != client.got for client in clients):
        now = time.monotonic()
        if end is None and os.path.exists(stop):
            end = now + PATIENCE_S
        assert end is None or now < end, "bytes are missing"
        if end is None:
            for client in clients:
                client.send()
        for client in select.select(clients, [], [], 0.01)[0]:
            client.receive()
        if now > reported + REPORT_S:
            print(min(client.got for client in clients), flush=True)
            reported = now
    total, longest_s = sum(client.got for client in clients), max(client.longest_s for client in clients)
    print(f"{total} bytes, longest pause {longest_s * 1000:.0f} ms", flush=True)


main()
