# SPDX-License-Identifier: GPL-2.0-only
"""Running criu for the benchmark: directories, chains of images, and leaving nothing behind."""
import os
import platform
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
CRIU_TIMEOUT_S = 180
GIB = 1 << 30


class BenchError(Exception):
    """What is measured does not work: no figure is better than a wrong one."""


def wait_until(condition, what, timeout_s=30):
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            raise BenchError(what)
        time.sleep(0.002)


def mem_available():
    with open("/proc/meminfo", encoding="ascii") as meminfo:
        for line in meminfo:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return 0


def images_bytes(directory):
    return sum(entry.stat().st_size for entry in os.scandir(directory) if entry.name.startswith("pages-"))


class Bench:
    def __init__(self):
        self.build = os.environ.get("BUILD") or os.path.join(HERE, "..", "..", "build")
        self.quick = bool(os.environ.get("QUICK"))
        self.turns = int(os.environ.get("TURNS") or (2 if self.quick else 5))
        base = os.environ.get("BENCH_DIR") or "/dev/shm"
        self.dir = tempfile.mkdtemp(prefix="wptrack-bench.", dir=base)
        # A keeper of its own: one in use is not disturbed.
        os.environ["WPTRACK_RUN_DIR"] = os.path.join(self.dir, "run")
        self.criu = os.path.join(self.build, "bin", "criu")
        self.stock = os.path.join(self.build, "criu-stock", "criu", "criu")
        self.plugins = os.path.join(self.build, "plugins")
        self.programs = []
        self.numbers = 0
        self.modes = ["splice", "read"]
        self.has_live = False

    def binary(self, name):
        return os.path.join(self.build, "test", name)

    def new_number(self):
        self.numbers += 1
        return self.numbers

    def new_dir(self):
        path = os.path.join(self.dir, f"images-{self.new_number()}")
        os.mkdir(path)
        return path

    def fits(self, nr_bytes):
        """Is there memory, now, for so much in a program and in images?"""
        return mem_available() > nr_bytes + GIB

    def warm_up(self, nr_bytes):
        """Have so much memory for images. What a virtual machine has to be given first takes several times as long."""
        chunk = bytes(1 << 20)
        path = os.path.join(self.dir, "warm-up")
        with open(path, "wb", buffering=0) as file:
            for _ in range(nr_bytes // len(chunk)):
                file.write(chunk)
        os.unlink(path)

    def where(self):
        """What images are written to."""
        kind = subprocess.run(["stat", "-f", "-c", "%T", self.dir], capture_output=True, check=False, text=True)
        return kind.stdout.strip()

    def end_programs(self):
        for program in list(self.programs):
            program.end()

    def close(self):
        self.end_programs()
        wait_until(lambda: self.keeper_pid() is None, "the keeper does not go")
        shutil.rmtree(self.dir)

    def keeper_pid(self):
        for name in os.listdir("/proc"):
            if not name.isdigit():
                continue
            try:
                with open(f"/proc/{name}/comm", encoding="ascii", errors="replace") as comm:
                    if comm.read().strip() != "wptrack-keeper":
                        continue
                with open(f"/proc/{name}/environ", "rb") as environ:
                    if ("WPTRACK_RUN_DIR=" + os.environ["WPTRACK_RUN_DIR"]).encode() in environ.read().split(b"\0"):
                        return int(name)
            except OSError:
                continue
        return None

    def tail(self, name):
        try:
            with open(os.path.join(self.dir, name), encoding="utf-8", errors="replace") as log:
                lines = [line.strip() for line in log if "RLIMIT_NOFILE" not in line]
        except OSError as err:
            return str(err)
        return " | ".join(lines[-3:])

    def run_criu(self, criu, directory, *arguments, plugins=None, may_fail=False):
        """Run criu. Return: microseconds, or None when it fails and may do so."""
        argv = [criu, *arguments, "-D", directory, "-v1", "-o", "criu.log"]
        if criu != self.stock:
            argv += ["-L", plugins or self.plugins]
        start = time.monotonic()
        child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                 stderr=subprocess.DEVNULL)
        # Waiting with a timeout of its own would poll, and that spoils the time.
        killer = threading.Timer(CRIU_TIMEOUT_S, child.kill)
        killer.start()
        try:
            status = child.wait()
        finally:
            killer.cancel()
            # Interrupted: what it works on is about to be killed.
            if child.poll() is None:
                child.kill()
                child.wait()
        spent_us = (time.monotonic() - start) * 1e6
        if status == 0:
            return spent_us
        if may_fail:
            return None
        raise BenchError(f"criu {' '.join(arguments)}: status {status}: " +
                         self.tail(os.path.join(os.path.basename(directory), "criu.log")))

    def stats(self, directory):
        out = subprocess.run([self.binary("criu-stats"), os.path.join(directory, "stats-dump")],
                             capture_output=True, check=False, text=True)
        if out.returncode:
            raise BenchError(out.stderr.strip())
        return {key: int(value) for key, value in (line.split() for line in out.stdout.splitlines())}

    def probe_live(self, program):
        """Does this criu know the live mode? It is asked once."""
        directory = self.new_dir()
        self.has_live = self.run_criu(self.criu, directory, "pre-dump", "-t", str(program.pid), "--track-mem",
                                      "--pre-dump-mode", "live", may_fail=True) is not None
        shutil.rmtree(directory)
        if self.has_live:
            self.modes.insert(0, "live")

    def release(self, program):
        """End tracking, so that nothing is protected any more."""
        if self.keeper_pid() is None:
            return
        subprocess.run([os.path.join(self.build, "bin", "wptrack"), "release", str(program.pid)],
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)

    def machine(self):
        with open("/proc/meminfo", encoding="ascii") as meminfo:
            total = int(meminfo.readline().split()[1]) / (1 << 20)
        version = subprocess.run([self.criu, "--version"], capture_output=True, check=False, text=True)
        wptrack = subprocess.run([os.path.join(self.build, "bin", "wptrack"), "--version"], capture_output=True,
                                 check=False, text=True)
        return {
            "kernel": f"Linux {platform.release()} {platform.machine()}",
            "cores": os.cpu_count(),
            "cpu": cpu_model(),
            "memory_gib": round(total, 1),
            "criu": version.stdout.split("\n")[0].replace("Version: ", ""),
            "wptrack": wptrack.stdout.strip(),
            "images": self.where(),
            "date": time.strftime("%Y-%m-%d"),
            "quick": self.quick,
            "turns": self.turns,
            "live": self.has_live,
        }


def cpu_model():
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as cpuinfo:
        for line in cpuinfo:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return "unknown"


class Chain:
    """Rounds of one program, each upon the one before."""

    def __init__(self, bench, program):
        self.bench = bench
        self.program = program
        self.dirs = []
        self.plugins = None  # the bench's

    def round(self, mode=None, kind="pre-dump", *options):
        """One more. Return: its statistics, with wall_us, gap_us if the program has one, and bytes."""
        directory = self.bench.new_dir()
        arguments = [kind, "-t", str(self.program.pid), "--track-mem", *options]
        if mode:
            arguments += ["--pre-dump-mode", mode]
        if self.dirs:
            arguments += ["--prev-images-dir", os.path.join("..", os.path.basename(self.dirs[-1]))]
        self.dirs.append(directory)
        return dumped(self.bench, self.bench.criu, self.program, directory, arguments, self.plugins)

    def final(self):
        """The dump that ends the program."""
        result = self.round(None, "dump")
        self.program.wait_gone()
        return result

    def restore(self):
        """Restore the last round. Return: microseconds."""
        return restored(self.bench, self.dirs[-1])

    def remove(self):
        for directory in self.dirs:
            shutil.rmtree(directory)
        self.dirs = []


def dumped(bench, criu, program, directory, arguments, plugins=None):
    watched = hasattr(program, "reset_gap")
    if watched:
        program.reset_gap()
    wall_us = bench.run_criu(criu, directory, *arguments, plugins=plugins)
    result = bench.stats(directory)
    result["wall_us"] = wall_us
    result["bytes"] = images_bytes(directory)
    if watched:
        # Time for the beat that ends the gap.
        time.sleep(0.005)
        result["gap_us"] = program.gap_us()
    return result


def full_dump(bench, program, *options):
    """A dump by stock criu, which cannot do any other without soft-dirty bits. Return: as Chain.round, and where."""
    directory = bench.new_dir()
    return dumped(bench, bench.stock, program, directory, ["dump", "-t", str(program.pid), *options]), directory


def pid_is_taken(directory):
    """Somebody else has a pid or tid of the program at the moment: nobody's fault."""
    with open(os.path.join(directory, "criu.log"), encoding="utf-8", errors="replace") as log:
        return re.search("Unable to create a thread: -17|(Unable to fork|clone).*File exists", log.read())


def restored(bench, directory, criu=None):
    """Restore, by ours or another criu. Return: microseconds."""
    for tries_left in range(4, -1, -1):
        try:
            return bench.run_criu(criu or bench.criu, directory, "restore", "--restore-detached")
        except BenchError:
            if not tries_left or not pid_is_taken(directory):
                raise
        time.sleep(0.5)
    return None


def run_below_reaper(argv):
    """Take over what is restored and detached: start again below build/test/reaper, unless that is done."""
    if os.environ.get("WPTRACK_REAPED"):
        return
    build = os.environ.get("BUILD") or os.path.join(HERE, "..", "..", "build")
    reaper = os.path.join(build, "test", "reaper")
    os.execv(reaper, [reaper, "/usr/bin/python3", *argv])


def end_on_signals():
    """So that an interrupted benchmark cleans up."""
    def stop(number, _frame):
        # Once: cleaning up is not to be interrupted.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
