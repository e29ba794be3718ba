# SPDX-License-Identifier: GPL-2.0-only
"""Section 10: how long a program is away in a migration, as it sees that itself: from its last instruction before the dump to
its first after the restore. Two live rounds and a dump, which leaves it stopped; it is restored into a pid namespace of its
own, as on another host. So what the kernel takes to free the memory of the source is in nobody's time. wptrack migrate --to does
all by itself, with as many rounds as it takes: its way to the other host is a pipe."""
import os
import shutil
import stat
import subprocess
import time

from figures import median_of, ms, ms_range, ratio, size
from harness import CRIU_TIMEOUT_S, BenchError, Chain, wait_until
from load import Load

SHAPES = (("4K pages", {}), ("huge pages", {"thp": True}))
WAYS = ("stock criu", "patched criu", "memory beforehand", "wptrack migrate --to")
GOAL_MS, GOAL_GROWTH = 150, 1.5


class Restorer:
    """A criu that restores into a pid namespace of its own, and ends with what it has restored. With rounds it reads these
    first, each when it is given."""

    def __init__(self, bench, criu, directory, in_rounds):
        self.answers = os.path.join(directory, "answers")
        self.given = 0
        argv = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", criu, "restore", "-D", directory, "-v1", "-o",
                "restore.log"]
        argv += ["--pre-restore"] if in_rounds else []
        with open(self.answers, "wb") as out, open(os.devnull, "rb") as null:
            self.child = subprocess.Popen(argv, stdin=subprocess.PIPE if in_rounds else null, stdout=out, stderr=out)
        bench.programs.append(self)
        self.bench = bench

    def answered(self):
        with open(self.answers, encoding="utf-8") as answers:
            return len(answers.readlines()) >= self.given

    def give(self, directory):
        self.given += 1
        self.child.stdin.write((directory + "\n").encode())
        self.child.stdin.flush()
        wait_until(self.answered, f"{directory} is not read", CRIU_TIMEOUT_S)
        with open(self.answers, encoding="utf-8") as answers:
            if not answers.readlines()[-1].endswith(": in memory\n"):
                raise BenchError(f"{directory} is not in memory")

    def go(self):
        self.child.stdin.close()

    def end(self):
        self.child.kill()
        self.child.wait()
        self.bench.programs.remove(self)


class Host:
    """Another one: a pid namespace, and a remote shell that enters it."""

    def __init__(self, bench):
        self.child = subprocess.Popen(["unshare", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc",
                                       bench.binary("reaper"), "sleep", "infinity"], stdin=subprocess.DEVNULL)
        bench.programs.append(self)
        self.bench = bench
        wait_until(lambda: self.children(self.child.pid) and self.children(self.children(self.child.pid)[0]), "there is no other host")
        self.init = self.children(self.child.pid)[0]
        self.rsh = os.path.join(bench.dir, "rsh")
        with open(self.rsh, "w", encoding="ascii") as rsh:
            rsh.write(f'#!/bin/sh\nshift\nexec nsenter --target {self.init} --pid --mount /bin/sh -c "$*"\n')
        os.chmod(self.rsh, stat.S_IRWXU)

    @staticmethod
    def children(pid):
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as children:
            return children.read().split()

    def end(self):
        self.child.kill()
        self.child.wait()
        self.bench.programs.remove(self)


def migrated(bench, mib, options):
    """As one_turn(). What is written before the dump is written while the first round is on its way."""
    program, host = Load(bench, mib, **options), Host(bench)
    work, there = bench.new_dir(), os.path.join(bench.dir, f"there-{bench.new_number()}")
    argv = [os.path.join(bench.build, "bin", "wptrack"), "migrate", "--criu", bench.criu, "--remote-criu", bench.criu,
            "--remote-wptrack", os.path.join(bench.build, "bin", "wptrack"), "--rsh", host.rsh, "--to", "host:" + there,
            "--force", str(program.pid), work, "--", "-L", bench.plugins]
    with open(os.path.join(bench.dir, "migrate.log"), "wb") as log:
        child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until(lambda: os.path.exists(os.path.join(there, "1")) or child.poll() is not None, "no round comes", CRIU_TIMEOUT_S)
        program.write()
        program.reset_gap()
        try:
            if child.wait(CRIU_TIMEOUT_S):
                raise BenchError("wptrack migrate: " + bench.tail("migrate.log"))
        finally:
            child.kill()
            child.wait()
    program.is_elsewhere = True
    program.write()
    # Time for the beat that ends the gap.
    time.sleep(0.005)
    row = {"away_us": program.gap_us(), "stop_us": 0}
    host.end()
    program.end()
    shutil.rmtree(work)
    shutil.rmtree(there)
    return row


def one_turn(bench, mib, options, way):
    """Return: microseconds, and of that what the dump took, as criu has it."""
    if way == WAYS[3]:
        return migrated(bench, mib, options)
    program = Load(bench, mib, **options)
    chain = Chain(bench, program)
    directory = bench.new_dir()
    restorer = Restorer(bench, bench.criu, directory, True) if way == "memory beforehand" else None
    for _ in range(2):
        chain.round("live")
        if restorer:
            restorer.give(chain.dirs[-1])
        program.write()
    program.reset_gap()
    bench.run_criu(bench.criu, directory, "dump", "-t", str(program.pid), "--track-mem", "--leave-stopped", "--prev-images-dir",
                   os.path.join("..", os.path.basename(chain.dirs[-1])))
    if restorer:
        restorer.go()
    else:
        restorer = Restorer(bench, bench.stock if way == "stock criu" else bench.criu, directory, False)
    # The source is stopped: it is the restored one that answers.
    program.write()
    # Time for the beat that ends the gap.
    time.sleep(0.005)
    row = {"away_us": program.gap_us(), "stop_us": bench.stats(directory)["frozen_time"]}
    restorer.end()
    program.end()
    chain.dirs.append(directory)
    chain.remove()
    return row


def run(bench, reports):
    report = reports[10]
    if not bench.has_live:
        raise BenchError("this criu has no live mode")
    sizes = [mib for mib in ((64, 256) if bench.quick else (256, 1024, 4096)) if bench.fits(4 * mib << 20)]
    turns = {}
    for nr in range(bench.turns):
        bench.warm_up(3 * sizes[-1] << 20)
        for mib in sizes:
            for name, options in SHAPES:
                ways = WAYS if nr % 2 else WAYS[::-1]
                for way in ways:
                    turns.setdefault((mib, name, way), []).append(one_turn(bench, mib, options, way))
    rows = []
    for mib in sizes:
        for name, _ in SHAPES:
            of = {way: turns[mib, name, way] for way in WAYS}
            medians = {way: median_of(of[way], "away_us") for way in WAYS}
            rows.append([size(mib), name] + [ms_range(row["away_us"] for row in of[way]) for way in WAYS] +
                        [ms(median_of(of[WAYS[2]], "stop_us")), ratio(medians[WAYS[0]] / medians[WAYS[2]])])
            for way in WAYS:
                report.keep(f"{size(mib)}, {name}, {way}", of[way])
    report.table(["populated", "as", *(f"away, {way}" for way in WAYS), "of memory beforehand: stopped by the dump",
                  "stock criu / memory beforehand"], rows)
    for way in WAYS[2:]:
        largest, smallest = (median_of(turns[mib, SHAPES[0][0], way], "away_us") for mib in (sizes[-1], sizes[0]))
        report.at_most(f"away, {size(sizes[-1])} of 4K pages, {way}", GOAL_MS * 1000, largest, ms)
        report.at_most(f"away, {size(sizes[-1])} / {size(sizes[0])}, {way}", GOAL_GROWTH, largest / smallest)
