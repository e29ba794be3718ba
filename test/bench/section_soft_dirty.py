# SPDX-License-Identifier: GPL-2.0-only
"""Section 8: beside soft-dirty bits, where the kernel has these, too."""
import os

from figures import median_of, ms_range, ratio
from harness import Chain
from load import Load

MIB = 512
QUICK_MIB = 128
WRITTEN = 1300
SHAPES = {"4 KiB pages": {}, "huge pages": {"thp": True}}
SOFT_DIRTY = "soft-dirty"


def has_soft_dirty(bench):
    return bench.run_criu(bench.criu, bench.dir, "check", "--feature", "mem_dirty_track", plugins=no_plugins(bench),
                          may_fail=True) is not None


def no_plugins(bench):
    path = os.path.join(bench.dir, "no-plugins")
    os.makedirs(path, exist_ok=True)
    return path


def one_chain(bench, tracker, options):
    """Two rounds and a dump of a program that writes the same between them. Return: of the later ones."""
    program = Load(bench, QUICK_MIB if bench.quick else MIB, **options)
    chain = Chain(bench, program)
    mode = "splice"
    if tracker == SOFT_DIRTY:
        chain.plugins = no_plugins(bench)
    else:
        mode = tracker
    chain.round(mode)
    program.write(WRITTEN)
    later = chain.round(mode)
    program.write(WRITTEN)
    final = chain.final()
    chain.remove()
    program.end()
    return {"stop_us": later["frozen_time"], "pages": later["pages_written"], "final_us": final["frozen_time"],
            "final_pages": final["pages_written"]}


def run(bench, reports):
    report = reports[8]
    if not has_soft_dirty(bench):
        print("  no soft-dirty bits in this kernel: `make bench-kernels` measures under one that has them")
        return
    trackers = [SOFT_DIRTY, "splice"] + (["live"] if bench.has_live else [])
    turns = {(shape, tracker): [] for shape in SHAPES for tracker in trackers}
    for nr in range(bench.turns):
        for shape, options in SHAPES.items():
            for tracker in trackers if nr % 2 else reversed(trackers):
                turns[shape, tracker].append(one_chain(bench, tracker, options))
    report.note(f"{QUICK_MIB if bench.quick else MIB} MiB, {WRITTEN} pages written between rounds. The ratios are to "
                "criu without the plugin, which uses soft-dirty bits.")
    rows = []
    for shape in SHAPES:
        base = turns[shape, SOFT_DIRTY]
        for tracker in trackers:
            of = turns[shape, tracker]
            rows.append([shape, tracker, ms_range(t["stop_us"] for t in of),
                         ratio(median_of(of, "stop_us") / median_of(base, "stop_us")), f"{median_of(of, 'pages'):.0f}",
                         ms_range(t["final_us"] for t in of),
                         ratio(median_of(of, "final_us") / median_of(base, "final_us")),
                         f"{median_of(of, 'final_pages'):.0f}"])
            report.keep(f"{shape}, {tracker}", of)
    report.table(["memory", "tracked by", "stop of a round", "ratio", "pages", "stop of the dump", "ratio", "pages"], rows)
