# SPDX-License-Identifier: GPL-2.0-only
"""Section 4: a migration in five rounds against five full dumps, and the restore of both."""
import shutil

from figures import median_of, ms_range, ratio
from harness import Chain, full_dump, restored
from load import Load
from section_stop import largest_fitting

ROUNDS = 5


def in_rounds(bench, mib):
    program = Load(bench, mib)
    chain = Chain(bench, program)
    mode = "live" if bench.has_live else "splice"
    results = []
    for _ in range(ROUNDS - 1):
        results.append(chain.round(mode))
        program.write()
    results.append(chain.final())
    row = total(results)
    row["restore_us"] = chain.restore()
    program.write()
    program.end()
    chain.remove()
    return row


def in_full(bench, mib):
    program = Load(bench, mib)
    results = []
    for _ in range(ROUNDS - 1):
        result, directory = full_dump(bench, program, "--leave-running")
        results.append(result)
        shutil.rmtree(directory)
        program.write()
    result, directory = full_dump(bench, program)
    program.wait_gone()
    results.append(result)
    row = total(results)
    row["restore_us"] = restored(bench, directory)
    program.write()
    program.end()
    shutil.rmtree(directory)
    return row


def total(results):
    return {"bytes": sum(r["bytes"] for r in results), "wall_us": sum(r["wall_us"] for r in results),
            "stop_us": sum(r["frozen_time"] for r in results), "final_stop_us": results[-1]["frozen_time"]}


def run(bench, reports):
    report = reports[4]
    mib = largest_fitting(bench)
    turns = {in_rounds: [], in_full: []}
    for nr in range(bench.turns):
        # The program, its images, and those of later rounds.
        bench.warm_up(3 * mib << 20)
        for of in (in_rounds, in_full) if nr % 2 else (in_full, in_rounds):
            turns[of].append(of(bench, mib))
    chain, full = turns[in_rounds], turns[in_full]
    rows = []
    ratios = {}
    for figure, name in (("bytes", "page data"), ("wall_us", "time of all dumps"), ("stop_us", "stopped, altogether"),
                         ("final_stop_us", "stopped in the end"), ("restore_us", "restore")):
        ratios[figure] = [c[figure] / f[figure] for c, f in zip(chain, full)]
        rows.append([name] + [gib_range(of) if figure == "bytes" else ms_range(t[figure] for t in of)
                              for of in (full, chain)] + [ratio(median_of(ratios[figure], float))])
    report.note(f"A program of {mib} MiB, 16 MiB of which are written before each round but the first.")
    report.table(["", f"{ROUNDS} full dumps, stock criu", f"{ROUNDS - 1} pre-dumps and a dump", "ratio"], rows)
    report.at_most(f"restore of {ROUNDS} rounds / restore of one full dump", 1.2,
                   median_of(ratios["restore_us"], float))
    report.keep("rounds", chain)
    report.keep("full", full)


def gib_range(of):
    return f"{median_of(of, 'bytes') / (1 << 30):.2f} GiB"
