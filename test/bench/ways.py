# SPDX-License-Identifier: GPL-2.0-only
"""The ways of a program to another host, and what each turn of one has to say.

Two live rounds, then a dump that leaves the program stopped, as a source does until the other side is running. So what the
kernel takes to free its memory is in nobody's time. First it is restored by the criu that has had the memory beforehand, then
from the same images by others. For these, the time from the end of the dump to their own start is taken off what the program
sees. Pages that a pre-dump has are never fetched lazily, so a lazy restore has a full dump of its own. wptrack migrate --to
does all by itself, with as many rounds as it takes: its way to the other host is a pipe."""
import contextlib
import json
import os
import re
import shutil
import subprocess
import time

from harness import CRIU_TIMEOUT_S, BenchError, Chain, wait_until
from hosts import ADDRESS, Host, Outside, network_of_our_own
from load import NONE, Load
from section_memory import rollup_kb

STOCK, PATCHED, LAZY, BEFOREHAND, MIGRATE = ("stock criu", "patched criu", "lazy pages", "memory beforehand",
                                             "wptrack migrate --to")
FROM_CHAIN = (STOCK, PATCHED)
WAYS = (*FROM_CHAIN, LAZY, BEFOREHAND, MIGRATE)
PACE_MS = 1000

# What a restore does, and a line of criu's log that comes when it is done. With several processes the last one counts.
PARTS = (("images", r"Forking task with"), ("memory", r"nr_restored_pages: "), ("files", r"Restore via sigreturn"),
         ("move", r"pie: .*: Restored$"), ("rest", r"Restore finished successfully"))
BEGIN = r"Dump CRIU run id"


class Case:
    """A program. options are those of Load, criu those of criu; clients is a number of connections. Ways that do not work are
    in fails, with what criu says then."""

    def __init__(self, mib, kind, options, fails=None, criu=(), clients=0):
        self.mib, self.kind, self.options, self.fails = mib, kind, options, fails or {}
        self.criu, self.clients = list(criu), clients

    def __str__(self):
        return f"{self.mib} MiB, {self.kind}"


@contextlib.contextmanager
def tell_case(case, way):
    try:
        yield
    except BenchError as err:
        raise BenchError(f"{case}: {way}: {err}") from err


class Child:
    """A process that ends with its turn, or with the benchmark."""

    def __init__(self, bench, argv, **streams):
        self.bench = bench
        self.child = subprocess.Popen(argv, **streams)
        bench.programs.append(self)

    def end(self):
        self.child.kill()
        self.child.wait()
        self.bench.programs.remove(self)


class Restorer(Child):
    """A criu that restores at a host, and ends with what it has restored. With rounds it reads these first, each when it is
    given."""

    def __init__(self, host, criu, directory, options, in_rounds=False):
        self.answers = os.path.join(directory, f"answers-{host.init}")
        self.log = f"restore-{host.init}.log"
        self.directory, self.given = directory, 0
        argv = [*host.enter, criu, "restore", "-D", directory, "-v1", "-o", self.log, *options]
        argv += ["--pre-restore"] if in_rounds else []
        with open(self.answers, "wb") as out, open(os.devnull, "rb") as null:
            super().__init__(host.bench, argv, stdin=subprocess.PIPE if in_rounds else null, stdout=out, stderr=out)

    def read_answers(self):
        with open(self.answers, encoding="utf-8") as answers:
            return answers.readlines()

    def give(self, directory):
        self.given += 1
        self.child.stdin.write((directory + "\n").encode())
        self.child.stdin.flush()
        wait_until(lambda: len(self.read_answers()) >= self.given, f"{directory} is not read", CRIU_TIMEOUT_S)
        if not self.read_answers()[-1].endswith(": in memory\n"):
            raise BenchError(f"{directory} is not in memory: {self.read_answers()[-1]}")

    def go(self):
        self.child.stdin.close()

    def must_fail(self, why):
        self.child.wait(CRIU_TIMEOUT_S)
        with open(os.path.join(self.directory, self.log), encoding="utf-8", errors="replace") as log:
            if not self.child.returncode or why not in log.read():
                raise BenchError(f"does not fail as expected: {self.last_words()}")

    def last_words(self):
        return self.bench.tail(os.path.join(os.path.basename(self.directory), self.log))

    def check(self):
        if self.child.poll() is not None:
            raise BenchError(f"criu restore: status {self.child.returncode}: {self.last_words()}")


class LazyPages(Child):
    """Who has the pages that a lazily restored program asks for."""

    def __init__(self, host, criu, directory):
        socket = os.path.join(directory, "lazy-pages.socket")
        super().__init__(host.bench, [*host.enter, criu, "lazy-pages", "-D", directory, "-v1", "-o", "lazy-pages.log"],
                         stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(lambda: os.path.exists(socket), "lazy-pages does not listen")


class Source:
    """A program, how fast it is before anything is done to it, and when its dump ended."""

    def __init__(self, bench, case, host=None):
        self.bench, self.case, self.outside = bench, case, None
        if case.clients:
            self.outside = Outside(bench, host)
        self.program = Load(bench, case.mib, **case.options)
        self.paced, self.faults = self.program.pace(PACE_MS)
        if self.outside:
            self.outside.connect(case.clients)
        self.dump_ended = None

    def went_on(self, restorer=None):
        """It runs at another place. Return: how long it was away, by itself, and its first second there."""
        # The answer comes from there: the source is stopped, or gone.
        self.program.request(NONE, check=restorer and restorer.check)
        self.program.wait_beat()
        row = {"away_us": self.program.gap_us(), "faults_before": self.faults}
        pages, row["faults"] = self.program.pace(PACE_MS)
        row["pace"] = pages / self.paced
        return row

    def end(self):
        self.program.end()
        if self.outside:
            self.outside.end()


def parts_of(path):
    """Return: microseconds of what a restore does one after the other, of a log with times."""
    begin, last = None, {}
    with open(path, encoding="utf-8", errors="replace") as log:
        for line in log:
            stamp = re.match(r"\((\d+\.\d+)\)", line)
            if stamp and begin is None and re.search(BEGIN, line):
                begin = float(stamp[1])
            elif stamp and begin is not None:
                last.update({part: float(stamp[1]) for part, pattern in PARTS if re.search(pattern, line.rstrip())})
    if len(last) < len(PARTS):
        raise BenchError(f"{path}: no line for {[part for part, _ in PARTS if part not in last]}")
    times = [begin, *(last[part] for part, _ in PARTS)]
    return {part + "_us": (after - before) * 1e6 for (part, _), before, after in zip(PARTS, times, times[1:])}


def memory_waiting(host, program):
    """Of criu before the dump. Return: KiB, and per KiB of the program's."""
    def rollup(pids):
        return [sum(values) for values in zip(*(rollup_kb(pid) for pid in pids))]

    rss_kb, pss_kb = rollup(host.pids())
    return {"rss_kb": rss_kb, "pss_kb": pss_kb, "pss_share": pss_kb / rollup(program.session())[1]}


def place(bench, case, criu):
    host = Host(bench, criu, bool(case.clients))
    if case.clients:
        host.have_address()
    return host


def beforehand(source, logged):
    """Rounds and dump, and the restore that has had the rounds. Return: (turn, the chain with the dump)."""
    bench, case, program = source.bench, source.case, source.program
    chain, directory = Chain(bench, program), bench.new_dir()
    host = place(bench, case, bench.criu)
    restorer = Restorer(host, bench.criu, directory, [*case.criu, *(["-v3"] if logged else [])], True)
    for _ in range(2):
        chain.round("live", "pre-dump", *case.criu)
        restorer.give(chain.dirs[-1])
        program.write()
    row = memory_waiting(host, program)
    program.reset_gap()
    bench.run_criu(bench.criu, directory, "dump", "-t", str(program.pid), "--track-mem", "--leave-stopped", "--prev-images-dir",
                   os.path.join("..", os.path.basename(chain.dirs[-1])), *case.criu)
    source.dump_ended = time.monotonic()
    chain.dirs.append(directory)
    restorer.go()
    row.update(source.went_on(restorer))
    stats = bench.stats(directory)
    row["stop_us"] = stats["freezing_time"] + stats["frozen_time"]
    row["copy_us"] = stats["memdump_time"] + stats["memwrite_time"]
    if logged:
        row.update(parts_of(os.path.join(directory, restorer.log)))
    restorer.end()
    host.end()
    return row, chain


def from_images(source, way, directory):
    """Restore what has been dumped. Return: a turn, or None where it fails, as it should."""
    bench, case = source.bench, source.case
    criu = bench.stock if way == STOCK else bench.criu
    host = place(bench, case, criu)
    source.program.reset_gap()
    start = time.monotonic()
    lazy = LazyPages(host, criu, directory) if way == LAZY else None
    restorer = Restorer(host, criu, directory, [*case.criu, *(["--lazy-pages"] if lazy else [])])
    row = None
    if way in case.fails:
        restorer.must_fail(case.fails[way])
    else:
        row = source.went_on(restorer)
        row["away_us"] -= (start - source.dump_ended) * 1e6
    restorer.end()
    if lazy:
        lazy.end()
    host.end()
    return row


def by_chain(bench, case, ways, logged=False):
    """Return: a turn of each of these ways, which begin with BEFOREHAND."""
    with network_of_our_own() if case.clients else contextlib.nullcontext():
        source = Source(bench, case)
        turns = {}
        with tell_case(case, BEFOREHAND):
            turns[BEFOREHAND], chain = beforehand(source, logged)
        for way in ways:
            with tell_case(case, way):
                turns[way] = from_images(source, way, chain.dirs[-1])
        source.end()
        chain.remove()
    return turns


def lazily(bench, case):
    """Return: a turn, or None where it fails, as it should."""
    with network_of_our_own() if case.clients else contextlib.nullcontext(), tell_case(case, LAZY):
        source, directory = Source(bench, case), bench.new_dir()
        bench.run_criu(bench.criu, directory, "dump", "-t", str(source.program.pid), "--leave-stopped", *case.criu)
        source.dump_ended = time.monotonic()
        row = from_images(source, LAZY, directory)
        source.end()
        shutil.rmtree(directory)
    return row


def migrate_command(bench, case, pid, host, work, there):
    argv = [os.path.join(bench.build, "bin", "wptrack"), "migrate", "--json", "--criu", bench.criu, "--remote-criu", bench.criu,
            "--remote-wptrack", os.path.join(bench.build, "bin", "wptrack"), "--rsh", host.rsh(), "--to", "host:" + there,
            "--force"]
    argv += ["--move-address", f"{ADDRESS}/24@eth"] if case.clients else []
    return [*argv, str(pid), work, "--", "-L", bench.plugins, *case.criu]


def run_migrate(source, host, work, there):
    """What is written before the dump is written while the first round is on its way. Return: the verdict."""
    bench, program = source.bench, source.program
    said, log = (os.path.join(bench.dir, name) for name in ("migrate.json", "migrate.log"))
    with open(said, "wb") as out, open(log, "wb") as err:
        child = subprocess.Popen(migrate_command(bench, source.case, program.pid, host, work, there),
                                 stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        try:
            wait_until(lambda: os.path.exists(os.path.join(there, "1")) or child.poll() is not None, "no round comes",
                       CRIU_TIMEOUT_S)
            program.write()
            program.reset_gap()
            if child.wait(CRIU_TIMEOUT_S):
                raise BenchError("wptrack migrate: " + bench.tail("migrate.log"))
        finally:
            child.kill()
            child.wait()
    with open(said, encoding="utf-8") as lines:
        return json.loads(lines.readlines()[-1])


def migrated(bench, case):
    """Return: a turn."""
    with network_of_our_own() if case.clients else contextlib.nullcontext(), tell_case(case, MIGRATE):
        host = Host(bench, bench.criu, bool(case.clients))
        source = Source(bench, case, host)
        work, there = bench.new_dir(), os.path.join(bench.dir, f"there-{bench.new_number()}")
        verdict = run_migrate(source, host, work, there)
        source.program.is_elsewhere = True
        row = source.went_on()
        stats = bench.stats(os.path.join(work, str(verdict["rounds"])))
        row["copy_us"] = stats["memdump_time"] + stats["memwrite_time"]
        row.update({key: verdict[key] for key in ("sent_us", "restored_us")})
        row["dump_us"] = verdict["away_us"] - verdict["sent_us"] - verdict["restored_us"]
        if source.outside:
            row["pause_us"] = source.outside.longest_pause_us()
        host.end()
        source.end()
        shutil.rmtree(work)
        shutil.rmtree(there)
    return row
