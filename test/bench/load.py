# SPDX-License-Identifier: GPL-2.0-only
"""Programs that are dumped: build/test/load, seen through the file of load.h."""
import mmap
import os
import signal
import struct
import subprocess

from harness import BenchError, wait_until

MAGIC = 0x77706C6F61643031
BUCKET_BITS = 5
BUCKETS = 64 << BUCKET_BITS

NONE, WRITE, TOUCH, ARM, DISARM, PACE = range(6)

REQUEST, ARG, AREA_START, PAGES, LONGEST_GAP, UNITS, DONE, FAILED, LATENCY = 8, 16, 24, 40, 48, 56, 64, 576, 584
PACED = LATENCY + 8 * BUCKETS
BEATS = PACED + 16
SIZE = BEATS + 8 * 128

PAGE = 4096
# What is written between two rounds, wherever nothing else is said.
WRITTEN_PAGES = 16 * 256

REQUEST_TIMEOUT_S = 120


class Program:
    """A program started by the benchmark, in a session of its own, so that criu can dump and restore it."""

    def __init__(self, bench, argv, name):
        self.bench = bench
        self.name = name
        with open(os.path.join(bench.dir, name + ".log"), "wb") as log:
            self.child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                          start_new_session=True)
        self.pid = self.child.pid
        self.is_elsewhere = False  # it has moved to another host: nothing of it is in its session here
        bench.programs.append(self)

    def status_kb(self, field):
        with open(f"/proc/{self.pid}/status", encoding="ascii") as status:
            for line in status:
                if line.startswith(field + ":"):
                    return int(line.split()[1])
        raise BenchError(f"{self.name}: no {field}")

    def session(self):
        """The processes of the program: they stay in its session, restored or not."""
        pids = []
        for name in os.listdir("/proc"):
            if not name.isdigit():
                continue
            try:
                with open(f"/proc/{name}/stat", encoding="ascii", errors="replace") as stat:
                    fields = stat.read().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == self.pid:
                pids.append(int(name))
        return pids

    def is_gone(self):
        # The program itself is ours to wait for, until it has been restored.
        self.child.poll()
        return not self.session()

    def wait_gone(self):
        wait_until(self.is_gone, f"{self.name} does not go")

    def kill(self):
        for pid in self.session():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.wait_gone()

    def end(self):
        """Kill it and forget it."""
        self.kill()
        self.bench.programs.remove(self)


class Load(Program):
    """A load program. Options are those of load.c; binary is one that a sanitizer is built into."""

    def __init__(self, bench, mib, processes=1, binary="load", **options):
        self.processes = processes
        self.beating = processes if options.get("all_beat") else 1
        path = os.path.join(bench.dir, f"load-{bench.new_number()}")
        with open(path, "wb") as file:
            file.write(struct.pack("<QI", MAGIC, 1).ljust(SIZE, b"\0"))
        with open(path, "r+b") as file:
            self.control = mmap.mmap(file.fileno(), SIZE)
        argv = [bench.binary(binary), "--control", path, "--mib", str(mib), "--processes", str(processes)]
        for option, value in options.items():
            argv.append("--" + option.replace("_", "-"))
            if value is not True:
                argv.append(str(value))
        super().__init__(bench, argv, os.path.basename(path))
        self.wait_done()

    def get32(self, offset):
        return struct.unpack_from("<I", self.control, offset)[0]

    def get64(self, offset):
        return struct.unpack_from("<Q", self.control, offset)[0]

    def wait_done(self, check=None):
        """check fails when no answer can come any more."""
        request = self.get32(REQUEST)

        def done():
            if check:
                check()
            if not self.is_elsewhere and self.child.poll() is not None and not self.session():
                raise BenchError(f"{self.name} has ended: " + self.bench.tail(self.name + ".log"))
            return all(self.get32(DONE + 4 * i) == request for i in range(self.processes))

        wait_until(done, f"{self.name} does not answer", REQUEST_TIMEOUT_S)
        failed = self.get32(FAILED)
        if failed:
            raise BenchError(f"{self.name}: {os.strerror(failed)}")

    def request(self, op, arg=0, check=None):
        struct.pack_into("<IQ", self.control, REQUEST + 4, op, arg)
        struct.pack_into("<I", self.control, REQUEST, self.get32(REQUEST) + 1)
        self.wait_done(check)

    def write(self, pages=WRITTEN_PAGES):
        self.request(WRITE, pages)

    def touch_each_huge(self):
        """Return: the number of pages touched, one in each huge page."""
        self.request(TOUCH)
        return self.get64(PAGES) // 512

    def populated_pages(self):
        return self.get64(PAGES) * self.processes

    def reset_gap(self):
        struct.pack_into("<Q", self.control, LONGEST_GAP, 0)

    def wait_beat(self):
        """Until whatever gap there is has been counted."""
        def beats():
            return struct.unpack_from(f"<{self.beating}Q", self.control, BEATS)

        before = beats()
        # The first may be that of a beat which had looked at the clock already.
        wait_until(lambda: all(now > then + 1 for now, then in zip(beats(), before)), f"{self.name} does not beat")

    def pace(self, ms):
        """As fast as it can. Return: pages written in that time, and faults that this took."""
        struct.pack_into("<QQ", self.control, PACED, 0, 0)
        self.request(PACE, ms)
        return struct.unpack_from("<QQ", self.control, PACED)

    def gap_us(self):
        return self.get64(LONGEST_GAP) / 1000

    def units(self):
        return self.get64(UNITS)

    def latencies(self):
        return struct.unpack_from(f"<{BUCKETS}Q", self.control, LATENCY)

    def bare_scan(self, *copy):
        """Stopped, as it is when criu scans it."""
        os.kill(self.pid, signal.SIGSTOP)
        out = subprocess.run([self.bench.binary("barescan"), str(self.pid), str(self.get64(AREA_START)),
                              str(self.get64(AREA_START + 8)), *copy],
                             stdin=subprocess.DEVNULL, capture_output=True, check=False, text=True)
        os.kill(self.pid, signal.SIGCONT)
        if out.returncode:
            raise BenchError(out.stderr.strip())
        return {key: int(value) for key, value in (line.split() for line in out.stdout.splitlines())}

    def bare_scans(self, times):
        """Scan it as the kernel can at best, with as much written as between rounds. Return: a dictionary each."""
        scans = []
        copy = os.path.join(self.bench.dir, "copy")
        self.request(ARM)
        # This one arms all of it.
        self.bare_scan()
        for _ in range(times):
            self.write()
            scans.append(self.bare_scan(copy))
        self.request(DISARM)
        os.unlink(copy)
        return scans


def bucket_ns(index):
    """The middle of a bucket of load.h."""
    power, part = index >> BUCKET_BITS, index & ((1 << BUCKET_BITS) - 1)
    return ((1 << BUCKET_BITS) + part + 0.5) * 2.0 ** (power - BUCKET_BITS)


def percentiles_us(before, after, percents):
    """Percentiles of what has been counted between two readings of latencies()."""
    counts = [b - a for a, b in zip(before, after)]
    total = sum(counts)
    result = []
    for percent in percents:
        seen = 0
        for index, count in enumerate(counts):
            seen += count
            if count and seen >= total * percent / 100:
                break
        result.append(bucket_ns(index) / 1000)
    return result
