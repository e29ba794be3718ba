# SPDX-License-Identifier: GPL-2.0-only
"""Section 9: the restore of a full dump, by stock criu and by ours, from the same images."""
import shutil

from figures import median_of, ms_range, ratio, size
from harness import full_dump, restored
from load import Load

# What of it is populated: all of it, in huge pages, or pieces of 2 MiB far from each other.
SHAPES = (("4K pages", {}), ("huge pages", {"thp": True}), ("pieces in 1 TiB", {"sparse_tib": 1}))
GOAL = 0.60


def one_turn(bench, mib, options, first):
    """Return: microseconds for each of the two, which take turns in being the first."""
    program = Load(bench, mib, **options)
    _, directory = full_dump(bench, program)
    program.wait_gone()
    row = {}
    for name in ("stock", "ours") if first else ("ours", "stock"):
        row[name] = restored(bench, directory, bench.stock if name == "stock" else bench.criu)
        program.write()
        program.kill()
    program.end()
    shutil.rmtree(directory)
    return row


def run(bench, reports):
    report = reports[9]
    mib = 256 if bench.quick else 1024
    turns = {name: [] for name, _ in SHAPES}
    for nr in range(bench.turns):
        bench.warm_up(3 * mib << 20)
        for name, options in SHAPES:
            turns[name].append(one_turn(bench, mib, options, nr % 2))
    rows = []
    for name, of in turns.items():
        shorter = median_of(of, lambda row: row["ours"] / row["stock"])
        rows.append([name, ms_range(row["stock"] for row in of), ms_range(row["ours"] for row in of), ratio(shorter)])
        report.at_most(f"restore of {size(mib)}, {name} / stock criu", GOAL, shorter)
        report.keep(name, of)
    report.table([f"{size(mib)}, populated as", "stock criu", "patched criu", "ratio"], rows)
