# SPDX-License-Identifier: GPL-2.0-only
"""Section 5: page tables and the keeper's memory; sparse memory against dense."""
from figures import median_of, ms_range, ratio
from harness import BenchError, Chain
from load import Load

MIB = 256
SPARSE_TIB = 16
PROCESSES = (1, 10, 100)


def rollup_kb(pid):
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as rollup:
        fields = {line.split(":")[0]: int(line.split()[1]) for line in rollup if line.rstrip().endswith("kB")}
    return fields["Rss"], fields["Pss"]


def one_shape(bench, mode, options):
    """Rounds of a program, before which its page tables are looked at, and after."""
    program = Load(bench, MIB, **options)
    chain = Chain(bench, program)
    row = {"pte_before_kb": program.status_kb("VmPTE")}
    row["first_stop_us"] = chain.round(mode)["frozen_time"]
    program.write()
    result = chain.round(mode)
    row["pte_after_kb"] = program.status_kb("VmPTE")
    row["stop_us"], row["wall_us"] = result["frozen_time"], result["wall_us"]
    program.write()
    row["final_stop_us"] = chain.final()["frozen_time"]
    program.end()
    chain.remove()
    return row


def keeper_of(bench, processes):
    program = Load(bench, processes, processes=processes)
    chain = Chain(bench, program)
    chain.round()
    pid = bench.keeper_pid()
    if pid is None:
        raise BenchError("no keeper after a pre-dump")
    rss, pss = rollup_kb(pid)
    program.end()
    chain.remove()
    return {"rss_kb": rss, "pss_kb": pss}


def run(bench, reports):
    report = reports[5]
    mode = "live" if bench.has_live else "splice"
    shapes = {"dense": {}, f"sparse, {SPARSE_TIB} TiB": {"sparse_tib": SPARSE_TIB}}
    turns = {name: [] for name in shapes}
    keepers = {processes: [] for processes in PROCESSES}
    # Short ones, and small differences.
    for nr in range(3 * bench.turns):
        for name in list(shapes) if nr % 2 else reversed(shapes):
            turns[name].append(one_shape(bench, mode, shapes[name]))
    for _ in range(bench.turns):
        for processes in PROCESSES:
            keepers[processes].append(keeper_of(bench, processes))
    show_shapes(report, mode, turns)
    show_keepers(report, keepers)


def show_shapes(report, mode, turns):
    dense, sparse = turns.values()
    report.note(f"{MIB} MiB populated, in one piece and in pieces of 2 MiB spread over {SPARSE_TIB} TiB; "
                f"{mode} rounds.")
    rows = []
    for name, figure in (("stop of the first round", "first_stop_us"), ("stop of a later round", "stop_us"),
                         ("time of a later round", "wall_us"), ("stop of the dump", "final_stop_us")):
        if not any(t[figure] for t in dense):
            rows.append([name, "0", ms_range(t[figure] for t in sparse), ""])
            continue
        value = median_of([s[figure] / d[figure] for d, s in zip(dense, sparse)], float)
        rows.append([name, ms_range(t[figure] for t in dense), ms_range(t[figure] for t in sparse), ratio(value)])
        report.at_most(f"{name}, sparse / dense", 1.05, value)
    for when in ("before", "after"):
        rows.append([f"page tables {when} tracking"] +
                    [f"{median_of(of, f'pte_{when}_kb'):.0f} KiB" for of in (dense, sparse)] + [""])
    report.table(["", *turns, "ratio"], rows)
    for name, of in turns.items():
        report.at_most(f"page tables, {name}: tracked / before", 1.05,
                       median_of(of, lambda t: t["pte_after_kb"] / t["pte_before_kb"]), "{:.3f}x".format)
        report.keep(name, of)


def show_keepers(report, keepers):
    report.note("The keeper, for all that is tracked:")
    report.table(["processes", "RSS", "PSS"],
                 [[processes, f"{median_of(of, 'rss_kb'):.0f} KiB", f"{median_of(of, 'pss_kb'):.0f} KiB"]
                  for processes, of in keepers.items()])
    for processes, of in keepers.items():
        report.keep(f"keeper of {processes}", of)
