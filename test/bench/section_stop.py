# SPDX-License-Identifier: GPL-2.0-only
"""Sections 0 and 1: one bare scan, and for how long a program is stopped, by size."""
import shutil
import time

from figures import median_of, ms, ms_range, ratio, size
from harness import GIB, Chain, full_dump
from load import Load

SCANS = 3
# Watched for as long, without any criu.
IDLE_S = 0.3
SIZES_MIB = (256, 1024, 4096, 8192)
QUICK_SIZES_MIB = (256, 1024)


def one_turn(bench, mib, nr):
    """All that is compared, of one program. Return: figures."""
    row = {}
    program = Load(bench, mib)
    scans = program.bare_scans(SCANS)
    row["pages"] = program.populated_pages()
    for figure in ("read_ns", "scan_ns", "copy_ns"):
        row[figure.replace("_ns", "_us")] = median_of(scans, figure) / 1000
    row["scan_pages"] = median_of(scans, "pages")

    program.reset_gap()
    time.sleep(IDLE_S)
    row["idle_gap_us"] = program.gap_us()
    bench.warm_up(mib << 20)
    stock, directory = full_dump(bench, program, "--leave-running")
    shutil.rmtree(directory)
    take(row, "stock", stock)

    chain = Chain(bench, program)
    take(row, "first", chain.round())
    for mode in bench.modes[nr % len(bench.modes):] + bench.modes[:nr % len(bench.modes)]:
        program.write()
        take(row, mode, chain.round(mode))
    program.write()
    take(row, "final", chain.final())
    chain.remove()
    program.end()
    return row


def take(row, name, result):
    for figure, key in (("stop", "frozen_time"), ("wall", "wall_us"), ("gap", "gap_us"),
                        ("memdump", "memdump_time"), ("memwrite", "memwrite_time")):
        row[f"{name}_{figure}_us"] = result[key]
    row[name + "_written_pages"] = result["pages_written"]


def measure(bench, report):
    """Return: the turns of each size that fits."""
    sizes = QUICK_SIZES_MIB if bench.quick else SIZES_MIB
    turns = {}
    for nr in range(bench.turns):
        for mib in sizes:
            # The program, and a full dump of it.
            if not bench.fits(2 * mib << 20):
                report.data.setdefault("skipped", []).append(mib)
                continue
            print(f"  turn {nr + 1}, {size(mib)}", flush=True)
            turns.setdefault(mib, []).append(one_turn(bench, mib, nr))
    for mib in sorted(set(report.data.get("skipped", []))):
        report.note(f"{size(mib)}: {report.data['skipped'].count(mib)} of {bench.turns} turns left out, as a program "
                    "of that size and its images did not fit into memory.")
    return turns


def scan_tables(report, turns):
    rows = []
    for mib, of in turns.items():
        gib = mib / 1024
        scan, read, copy = (median_of(of, key) for key in ("scan_us", "read_us", "copy_us"))
        rows.append([size(mib), ms_range(t["scan_us"] for t in of), f"{ms(scan / gib)}",
                     ms_range(t["read_us"] for t in of), f"{ms(read / gib)}", f"{ms(copy)}"])
    report.table(["populated", "one combined scan", "per GiB", "one read for written pages", "per GiB",
                  "copy of what was written"], rows)
    for mib, of in turns.items():
        report.keep(f"{mib} MiB", [{key: t[key] for key in ("scan_us", "read_us", "copy_us", "scan_pages")}
                                   for t in of])


def stop_tables(bench, report, turns):
    rounds = ["stock", "first"] + bench.modes + ["final"]
    names = {"idle": "no criu", "stock": "stock: full dump", "first": "first round (full)", "final": "dump",
             **{mode: mode for mode in bench.modes}}
    rows = []
    for mib, of in turns.items():
        rows.append([size(mib), ms_range(t["scan_us"] for t in of)] +
                    [ms_range(t[r + "_stop_us"] for t in of) for r in rounds])
    report.table(["populated", "bare scan"] + [names[r] for r in rounds], rows)

    rows = []
    for mib, of in turns.items():
        rows.append([size(mib)] + [ratio(median_of(of, lambda t, r=r: t[r + "_stop_us"] / t["scan_us"]))
                                   for r in rounds])
    report.note("The same, divided by the bare scan of the same turn:")
    report.table(["populated"] + [names[r] for r in rounds], rows)

    gaps = ["idle", "stock", "first"] + bench.modes
    rows = [[size(mib)] + [ms_range(t[r + "_gap_us"] for t in of) for r in gaps] for mib, of in turns.items()]
    report.note("The longest time in which a thread of the program that wants to run each 0.1 ms did not:")
    report.table(["populated"] + [names[r] for r in gaps], rows)
    for mib, of in turns.items():
        report.keep(f"{mib} MiB", of)


def stop_goals(bench, report, turns):
    for mib, of in turns.items():
        if bench.has_live:
            value = median_of(of, "live_stop_us")
            report.goal(f"live round, {size(mib)}: stop", "0", ms(value), value == 0)
        value = median_of(of, "splice_stop_us")
        limit = median_of(of, lambda t: 2 * t["scan_us"] + 3000)
        report.goal(f"splice round, {size(mib)}: stop", f"2 x bare scan + 3 ms = {ms(limit)}", ms(value),
                    median_of(of, lambda t: t["splice_stop_us"] - 2 * t["scan_us"] - 3000) <= 0)
        report.at_most(f"dump, {size(mib)}: memory part of the stop / (bare scan + copy)", 1.5,
                       median_of(of, lambda t: t["final_memdump_us"] / (t["scan_us"] + t["copy_us"])))


def run(bench, reports):
    turns = measure(bench, reports[1])
    scan_tables(reports[0], turns)
    stop_tables(bench, reports[1], turns)
    stop_goals(bench, reports[1], turns)


def largest_fitting(bench):
    """For what is measured with one size only: MiB."""
    return 256 if bench.quick or not bench.fits(4 * GIB) else 1024
