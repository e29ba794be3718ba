# SPDX-License-Identifier: GPL-2.0-only
"""Section 7: how long wptrack migrate says that a dump is going to stop a program, and how long it does."""
import json
import os
import resource
import shutil
import socket
import subprocess

from figures import median_of, ms_range, ratio
from harness import CRIU_TIMEOUT_S, HERE, BenchError, wait_until
from load import Program

PROGRAM = os.path.join(HERE, "predicted.py")
WITHIN = 2.0
# Long enough for any of them.
DOWNTIME_MS = 60000


class Shape(Program):
    def __init__(self, bench, *arguments):
        super().__init__(bench, ["/usr/bin/python3", PROGRAM, *[str(a) for a in arguments]],
                         f"predicted-{bench.new_number()}")
        wait_until(self.is_ready, f"{arguments[0]} does not get ready")

    def is_ready(self):
        if self.child.poll() is not None:
            raise BenchError(self.bench.tail(self.name + ".log"))
        return "ready" in self.bench.tail(self.name + ".log")


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def migrated(bench, program, own=(), criu=()):
    """Return: predicted and stopped, in microseconds. The program is dumped, and ends."""
    directory = bench.new_dir()
    argv = [os.path.join(bench.build, "bin", "wptrack"), "migrate", "--json", "--criu", bench.criu, "--downtime",
            str(DOWNTIME_MS), "--pre-dump-mode", "live" if bench.has_live else "splice", *own, str(program.pid),
            directory, "--", "-L", bench.plugins, "-v1", *criu]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False, text=True,
                          timeout=CRIU_TIMEOUT_S)
    if done.returncode:
        raise BenchError(f"wptrack migrate: {done.returncode}: {done.stderr.strip()[-400:]}")
    verdict = json.loads(done.stdout.splitlines()[-1])
    program.wait_gone()
    shutil.rmtree(directory)
    return {"predicted_us": verdict["predicted_stop_us"], "stopped_us": verdict["stopped_us"]}


def alone(*arguments):
    def once(bench):
        return migrated(bench, Shape(bench, *arguments))
    return once


def connected(number):
    def once(bench):
        port = free_port()
        server = Shape(bench, "server", port)
        clients = Shape(bench, "clients", port, number)
        result = migrated(bench, server, criu=["--tcp-established"])
        clients.end()
        return result
    return once


def to_server(mib):
    def once(bench):
        port = str(free_port())
        directory = bench.new_dir()
        command = (f"mkdir -p {directory}/$WPTRACK_ROUND && exec {bench.criu} page-server --daemon "
                   f"-D {directory}/$WPTRACK_ROUND --address 127.0.0.1 --port {port} -o page-server.log "
                   "${WPTRACK_PREV:+--prev-images-dir $WPTRACK_PREV} </dev/null >/dev/null 2>&1")
        result = migrated(bench, Shape(bench, "plain", mib),
                          own=["--address", "127.0.0.1", "--port", port, "--page-server-cmd", command])
        shutil.rmtree(directory)
        return result
    return once


CASES = (("256 MiB", alone("plain", 256)), ("1 connection", connected(1)), ("40 connections", connected(40)),
         ("400 connections", connected(400)), ("512 MiB of shared memory", alone("shared", 512)),
         ("256 MiB, to a page-server", to_server(256)), ("256 MiB that cannot be tracked", alone("untrackable", 256)),
         ("20 processes", alone("tree", 20)))


def off_by(result):
    """How far apart, whichever is longer."""
    pair = (max(result["predicted_us"], 1), max(result["stopped_us"], 1))
    return max(pair) / min(pair)


def run(bench, reports):
    report = reports[7]
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    results = {name: [] for name, _ in CASES}
    for _ in range(bench.turns):
        for name, once in CASES:
            results[name].append(once(bench))
    rows = []
    for name, _ in CASES:
        of = results[name]
        times = median_of([r["predicted_us"] / r["stopped_us"] for r in of], float)
        rows.append([name, ms_range(r["predicted_us"] for r in of), ms_range(r["stopped_us"] for r in of),
                     ratio(times)])
        report.keep(name, of)
        report.at_most(f"prediction, {name}: off by", WITHIN, median_of([off_by(r) for r in of], float))
    report.note("Each is migrated by `wptrack migrate`, with live rounds, until the stop is predicted to be short enough.")
    report.table(["", "predicted", "stopped", "predicted / stopped"], rows)
