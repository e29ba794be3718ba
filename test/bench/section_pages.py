# SPDX-License-Identifier: GPL-2.0-only
"""Section 3: pages that a round writes, for each page that the program has written."""
from figures import median_of
from harness import Chain
from load import WRITTEN_PAGES, Load

SPARSE_TIB = 16


def one_turn(bench, mode, options, touch):
    program = Load(bench, 1024 if touch else 256, **options)
    row = {"thp_kb": smaps_kb(program, "AnonHugePages")}
    chain = Chain(bench, program)
    chain.round(mode)
    # What is in each round, whatever the program does: its stacks, and the
    # copied pages of private file mappings, which are not tracked.
    row["idle_pages"] = chain.round(mode)["pages_written"]
    if touch:
        row["own_pages"] = program.touch_each_huge()
    else:
        program.write()
        row["own_pages"] = WRITTEN_PAGES
    row["written_pages"] = chain.round(mode)["pages_written"]
    program.end()
    chain.remove()
    return row


def smaps_kb(program, field):
    with open(f"/proc/{program.pid}/smaps_rollup", encoding="ascii") as rollup:
        for line in rollup:
            if line.startswith(field + ":"):
                return int(line.split()[1])
    return 0


# name, options of the program, one byte in each 2 MiB instead of whole pages
KINDS = (
    ("4K pages", {}, False),
    ("THP, one byte in each", {"thp": True}, True),
    ("THP, scattered 4K pages", {"thp": True}, False),
    (f"sparse, {SPARSE_TIB} TiB", {"sparse_tib": SPARSE_TIB}, False),
)


def run(bench, reports):
    report = reports[3]
    turns = {(name, mode): [] for name, _, _ in KINDS for mode in bench.modes}
    for _ in range(bench.turns):
        for name, options, touch in KINDS:
            for mode in bench.modes:
                turns[name, mode].append(one_turn(bench, mode, options, touch))
    rows = []
    for (name, mode), of in turns.items():
        if name.startswith("THP") and median_of(of, "thp_kb") < 128 * 1024:
            report.note(f"{name}: left out, the kernel gave no huge pages.")
            continue
        value = median_of(of, lambda t: (t["written_pages"] - t["idle_pages"]) / t["own_pages"])
        figures = [f"{median_of(of, figure):.0f}" for figure in ("own_pages", "idle_pages", "written_pages")]
        rows.append([name, mode, *figures, f"{value:.3f}"])
        report.goal(f"{name}, {mode}: pages in the images / pages written", "1.00 to 1.02", f"{value:.3f}",
                    1 <= value <= 1.02)
        report.keep(f"{name}, {mode}", of)
    report.table(["memory", "round", "written by request", "in a round without a request", "in the images", "ratio"],
                 rows)
