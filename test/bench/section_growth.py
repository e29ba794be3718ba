# SPDX-License-Identifier: GPL-2.0-only
"""Section 6: how the stop and the time of a round grow with size, mappings and processes."""
from figures import median_of, ms, ms_range, size, slope
from harness import Chain
from load import Load

# Populated in each of the programs with more and more mappings, and processes: MiB.
VMAS_MIB = 200
PROCESSES_MIB = 200


def series(bench):
    """name, what is counted, (number, size, options) of each program"""
    sizes = (64, 256, 1024) if bench.quick else (256, 1024, 4096)
    vmas = (10, 1000, 10000) if bench.quick else (10, 1000, 10000, 50000)
    processes = (1, 10) if bench.quick else (1, 10, 100)
    return (
        ("populated", "GiB", [(mib / 1024, mib, {}) for mib in sizes if bench.fits(2 * mib << 20)]),
        ("mappings", "mapping", [(n, VMAS_MIB, {"vmas": n}) for n in vmas]),
        ("processes", "process", [(n, PROCESSES_MIB, {"processes": n}) for n in processes]),
    )


def one_turn(bench, mib, options):
    program = Load(bench, mib, **options)
    chain = Chain(bench, program)
    row = {}
    first = chain.round()
    row["first_stop_us"], row["first_wall_us"] = first["frozen_time"], first["wall_us"]
    for mode in bench.modes:
        program.write()
        result = chain.round(mode)
        row[mode + "_stop_us"], row[mode + "_wall_us"] = result["frozen_time"], result["wall_us"]
    program.write()
    final = chain.final()
    row["final_stop_us"], row["final_wall_us"] = final["frozen_time"], final["wall_us"]
    program.end()
    chain.remove()
    return row


def run(bench, reports):
    report = reports[6]
    all_series = series(bench)
    turns = {(name, number): [] for name, _, programs in all_series for number, _, _ in programs}
    for nr in range(bench.turns):
        print(f"  turn {nr + 1}", flush=True)
        for name, _, programs in all_series:
            for number, mib, options in programs:
                turns[name, number].append(one_turn(bench, mib, options))
    for name, unit, programs in all_series:
        show(bench, report, name, unit, {number: turns[name, number] for number, _, _ in programs})


def show(bench, report, name, unit, of):
    kinds = [("first_stop_us", "first round: stop"), ("splice_stop_us", "splice: stop"),
             ("splice_wall_us", "splice: whole round"), ("final_stop_us", "dump: stop")]
    if bench.has_live:
        kinds += [("live_stop_us", "live: stop"), ("live_wall_us", "live: whole round")]
    rows = [[size(round(number * 1024)) if unit == "GiB" else number] +
            [ms_range(t[figure] for t in turns) for figure, _ in kinds] for number, turns in of.items()]
    # One size may be all that fits.
    if len(of) > 1:
        rows.append(["fitted"] + [fit(report, name, unit, figure, of) for figure, _ in kinds])
    report.table([name] + [title for _, title in kinds], rows)
    for number, turns in of.items():
        report.keep(f"{name}: {number:g}", turns)


def fit(report, name, unit, figure, of):
    at_0, per_unit = slope([(number, median_of(turns, figure)) for number, turns in of.items()])
    report.data[f"{name}: {figure}"] = {"at_0_us": at_0, f"per_{unit}_us": per_unit}
    return f"{ms(at_0)} + {per_unit / 1000:.3g} ms per {unit}"
