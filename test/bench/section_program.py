# SPDX-License-Identifier: GPL-2.0-only
"""Section 2: what programs notice of a round each second."""
import os
import re
import shutil
import subprocess
import time

from figures import median_of, ratio, summary
from harness import BenchError, Chain, wait_until
from load import Load, Program, percentiles_us
from section_stop import largest_fitting

PERCENTS = (50, 99, 99.9)
REDIS_KEYS = 420000
# The load rewrites this many of them over and over.
REDIS_HOT_KEYS = 60000
REDIS_VALUE_BYTES = 256
REDIS_CLIENTS = 8


class Rounds:
    """A round each second."""

    def __init__(self, bench, program, mode):
        self.chain = Chain(bench, program)
        self.bench = bench
        self.mode = mode
        self.results = []
        if mode:
            self.chain.round(mode)
        else:
            # Nothing of what tracked it before is to be left.
            bench.release(program)
        self.next = time.monotonic() + 0.5

    def until(self, is_over):
        while not is_over():
            if not self.mode or time.monotonic() < self.next:
                time.sleep(0.01)
                continue
            self.next = max(self.next + 1, time.monotonic())
            self.results.append(self.chain.round(self.mode))

    def end(self):
        """Return: what the rounds were like."""
        self.chain.remove()
        if not self.mode:
            return {}
        if not self.results:
            raise BenchError("no round while the program was watched")
        return {"rounds": len(self.results), "stop_us": median_of(self.results, "frozen_time"),
                "wall_us": median_of(self.results, "wall_us"),
                "pages_written": median_of(self.results, "pages_written")}


class Writer:
    title = "writer"

    def __init__(self, bench):
        self.bench = bench
        self.mib = largest_fitting(bench)
        self.program = Load(bench, self.mib, busy=True)
        self.what = (f"A program of {self.mib} MiB that writes 16 KiB each ms, which makes 16 MiB/s, and works on one "
                     "page in between: throughput is that work, latency the time from when a write was due to its end.")

    def window(self, mode, seconds):
        rounds = Rounds(self.bench, self.program, mode)
        latencies, units, start = self.program.latencies(), self.program.units(), time.monotonic()
        rounds.until(lambda: time.monotonic() > start + seconds)
        spent = time.monotonic() - start
        units = self.program.units() - units
        values = percentiles_us(latencies, self.program.latencies(), PERCENTS)
        return {"per_s": units / spent, **dict(zip(PERCENTS, values)), **rounds.end()}


class Redis:
    title = "redis"

    def __init__(self, bench):
        self.bench = bench
        self.socket = os.path.join(bench.dir, "redis.sock")
        # Debian's redis-tools has the server's program under another name; the
        # package redis-server would start a server of its own.
        server = os.path.join(bench.dir, "redis-server")
        found = shutil.which("redis-check-rdb")
        if not found:
            raise BenchError("redis-check-rdb is missing: install redis-tools (make deps)")
        os.symlink(found, server)
        self.program = Program(bench, [server, "--port", "0", "--unixsocket", self.socket, "--dir", bench.dir,
                                       "--save", "", "--appendonly", "no", "--daemonize", "no"], "redis")
        wait_until(self.answers, "redis-server does not answer")
        self.load(REDIS_KEYS, REDIS_KEYS, 16)
        # How many make a window.
        self.requests_per_s = self.load(REDIS_HOT_KEYS, 50000, 1)["per_s"]
        self.what = (f"redis-server with {self.program.status_kb('VmRSS') // 1024} MiB; redis-benchmark, "
                     f"{REDIS_CLIENTS} clients, writes values of {REDIS_VALUE_BYTES} bytes under {REDIS_HOT_KEYS} "
                     f"of {REDIS_KEYS} keys.")

    def answers(self):
        out = subprocess.run(["redis-cli", "-s", self.socket, "ping"], capture_output=True, check=False)
        return out.stdout.strip() == b"PONG"

    def start_load(self, keys, requests, pipeline):
        return subprocess.Popen(["redis-benchmark", "-s", self.socket, "-r", str(keys), "-n", str(requests),
                                 "-c", str(REDIS_CLIENTS), "-P", str(pipeline), "SET", "key:__rand_int__",
                                 "__rand_int__".ljust(REDIS_VALUE_BYTES, "x")],
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def load(self, keys, requests, pipeline):
        return parse_redis_benchmark(self.start_load(keys, requests, pipeline))

    def window(self, mode, seconds):
        rounds = Rounds(self.bench, self.program, mode)
        load = self.start_load(REDIS_HOT_KEYS, round(self.requests_per_s * seconds), 1)
        try:
            rounds.until(lambda: load.poll() is not None)
            return {**parse_redis_benchmark(load), **rounds.end()}
        finally:
            if load.poll() is None:
                load.kill()
                load.wait()


def parse_redis_benchmark(load):
    out = load.communicate()[0]
    found = re.search(r"throughput summary: ([\d.]+) requests per second", out)
    steps = [(float(percent), float(limit))
             for percent, limit in re.findall(r"([\d.]+)% <= ([\d.]+) milliseconds", out)]
    if load.returncode or not found or not steps:
        raise BenchError("redis-benchmark: " + out[-200:])
    values = {p: min(limit for percent, limit in steps if percent >= p) * 1000 for p in PERCENTS}
    return {"per_s": float(found.group(1)), **values}


def run(bench, reports):
    report = reports[2]
    # Read rounds stop a program as splice rounds do.
    modes = [None] + [mode for mode in bench.modes if mode != "read"]
    seconds = 3 if bench.quick else 6
    for subject in (Writer(bench), Redis(bench)):
        turns = {mode: [] for mode in modes}
        for nr in range(bench.turns):
            for mode in modes[nr % len(modes):] + modes[:nr % len(modes)]:
                turns[mode].append(subject.window(mode, seconds))
        subject.program.end()
        report.note(f"{subject.what} {bench.turns} turns of {seconds} s each.")
        show(report, subject.title, turns)


def show(report, title, turns):
    columns = ["", "throughput, 1/s", *(f"p{percent:g}" for percent in PERCENTS), "stop", "round"]
    rows = []
    for mode, of in turns.items():
        rows.append([f"{mode} rounds" if mode else "untracked",
                     f"{median_of(of, 'per_s'):.0f}" + against(turns, mode, "per_s"),
                     *(f"{median_of(of, p):.0f} us" + against(turns, mode, p) for p in PERCENTS),
                     *(f"{median_of(of, key) / 1000:.1f} ms" if mode else "" for key in ("stop_us", "wall_us"))])
        report.data[f"{title}, {mode or 'untracked'}"] = {
            (f"p{key:g}_us" if key in PERCENTS else key): summary(t[key] for t in of) for key in of[0]}
    report.table(columns, rows)
    for mode in turns:
        if not mode:
            continue
        lost = summary(100 * (1 - t["per_s"] / u["per_s"]) for t, u in zip(turns[mode], turns[None]))
        # What neighbours take in one window and not in the next may well be more.
        report.goal(f"{title}, {mode} rounds: throughput lost", "at most 5 %",
                    "{median:.1f} % ({min:.1f} to {max:.1f})".format(**lost), lost["median"] <= 5)
        report.at_most(f"{title}, {mode} rounds: p99 / untracked", 2, ratio_of(turns, mode, 99))


def ratio_of(turns, mode, figure):
    """Within turns: the machine is not the same in each."""
    return median_of([t[figure] / u[figure] for t, u in zip(turns[mode], turns[None])], float)


def against(turns, mode, figure):
    return f" ({ratio(ratio_of(turns, mode, figure))})" if mode else ""
