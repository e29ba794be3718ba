# SPDX-License-Identifier: GPL-2.0-only
"""bench-sparse.py RECORDS JSON [DOC]: medians and ratios of what bench-sparse.sh has recorded.

A record is a line "build figure value". Ratios are taken within a turn, build
against plain, and the median of those is shown.
"""
import json
import os
import platform
import statistics
import sys
import time

BUILDS = ("plain", "asan", "msan", "tsan")

# figure shown, how it is computed from a turn's records, unit, goal
FIGURES = (
    ("dump time per page", lambda r: r["full_dump.wall_us"] / r["full_dump.pages"], "us", None),
    ("stop of the dump per page", lambda r: r["full_dump.frozen_us"] / r["full_dump.pages"], "us", None),
    ("restore time per page", lambda r: r["full_restore.wall_us"] / r["full_restore.pages"], "us", None),
    ("dump time per page, third round", lambda r: r["chain_dump.wall_us"] / r["chain_dump.pages"], "us", None),
    ("restore time per page, three rounds",
     lambda r: r["chain_restore.wall_us"] / r["chain_restore.pages"], "us", "at most 1.5"),
    ("criu's peak RSS, dump", lambda r: r["full_dump.peak_rss_kb"] / 1024, "MiB", "plain + 32 MiB"),
    ("criu's peak RSS, restore", lambda r: r["chain_restore.peak_rss_kb"] / 1024, "MiB", "plain + 32 MiB"),
    ("criu's page tables, dump", lambda r: r["full_dump.peak_pte_kb"], "KiB", None),
    ("criu's page tables, restore", lambda r: r["chain_restore.peak_pte_kb"], "KiB", None),
)

# the restored process against the dumped one
AGAINST_ITSELF = (
    ("pages", lambda r: r["chain_restore.pages"] / r["chain_dump.pages"], "0.99 to 1.01"),
    ("page tables", lambda r: r["chain_restore.pte_kb"] / r["chain_dump.pte_kb"], "0.95 to 1.05"),
)


def read_turns(path):
    turns = {build: [] for build in BUILDS}
    with open(path, encoding="ascii") as records:
        for line in records:
            build, figure, value = line.split()
            if figure == "full_dump.pte_kb":
                turns[build].append({})
            turns[build][-1][figure] = float(value)
    return turns


def compute(turns):
    rows = []
    for name, of, unit, goal in FIGURES:
        values = {b: [of(r) for r in turns[b]] for b in BUILDS}
        ratios = {b: statistics.median(v / p for v, p in zip(values[b], values["plain"])) for b in BUILDS}
        rows.append({"figure": name, "unit": unit, "goal": goal, "ratio": ratios,
                     "median": {b: statistics.median(values[b]) for b in BUILDS}})
    own = [{"figure": name, "goal": goal,
            "ratio": {b: statistics.median(of(r) for r in turns[b]) for b in BUILDS}}
           for name, of, goal in AGAINST_ITSELF]
    return rows, own


def table(rows, own):
    lines = ["| against plain | goal | " + " | ".join(BUILDS) + " |", "|---|---|" + "---|" * len(BUILDS)]
    for row in rows:
        cells = [f"{row['median'][b]:.3g} {row['unit']}" + ("" if b == "plain" else f" ({row['ratio'][b]:.2f}x)")
                 for b in BUILDS]
        lines.append(f"| {row['figure']} | {row['goal'] or ''} | " + " | ".join(cells) + " |")
    lines += ["", "| restored against dumped | goal | " + " | ".join(BUILDS) + " |", "|---|---|" + "---|" * len(BUILDS)]
    for row in own:
        cells = [f"{row['ratio'][b]:.3f}" for b in BUILDS]
        lines.append(f"| {row['figure']} | {row['goal']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


DOC = """# What sparse mappings cost

Written by `make bench-sparse WRITE_DOCS=1` on {date}. The same program, holding {mib} MiB, is built
without a sanitizer and with each. {turns} turns of a full dump and its restore, then two pre-dumps,
a dump and the restore of these. Medians; ratios are those of turns. A page is one of 4 KiB that is
populated, shadow memory included: AddressSanitizer maps 20 TiB, MemorySanitizer 100 TiB,
ThreadSanitizer 125 TiB. Images are kept in memory.

Each turn begins with a dump that does not count. Memory that a virtual machine has to be given
first takes several times as long to fill, and larger images need more of it.

{machine}

{table}
"""


def main():
    records, json_path = sys.argv[1:3]
    rows, own = compute(read_turns(records))
    machine = f"Linux {platform.release()} {platform.machine()}, {os.cpu_count()} cores, a virtual machine with neighbours."
    text = table(rows, own)
    with open(json_path, "w", encoding="ascii") as out:
        json.dump({"machine": machine, "against_plain": rows, "against_itself": own}, out, indent=1)
    print(machine)
    print(text)
    if len(sys.argv) > 3:
        with open(sys.argv[3], "w", encoding="ascii") as out:
            out.write(DOC.format(date=time.strftime("%Y-%m-%d"), mib=os.environ["MIB"], turns=os.environ["TURNS"],
                                 machine=machine, table=text))


main()
