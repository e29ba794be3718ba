# SPDX-License-Identifier: GPL-2.0-only
"""bench.py: what tracking costs, all figures in one run. Called by `make bench`.

    BENCH=regexp     numbers of the sections to run; all
    QUICK=1          small sizes, few turns
    TURNS=number     how often each figure is taken; 5, or 2 for QUICK
    BENCH_DIR=dir    where images go: /dev/shm, as a disk is not what is measured
    BENCH_JSON=file  what to write; bench.json in the build directory
    WRITE_DOCS=1     write the tables into docs/performance.md; with BENCH those of the sections alone, each with its own goals and
                     the machine

Section 8 needs a kernel with soft-dirty bits: `make bench-kernels`.
"""
import json
import os
import re
import subprocess
import sys
import time

import section_blackout
import section_growth
import section_memory
import section_migration
import section_pages
import section_predict
import section_program
import section_restore
import section_soft_dirty
import section_stop
from figures import Report, goal_table
from harness import HERE, Bench, BenchError, end_on_signals, run_below_reaper
from load import Load

DOC = os.path.join(HERE, "..", "..", "docs", "performance.md")
DRAW_AWAY = os.path.join(HERE, "..", "..", "scripts", "draw-away.py")

TITLES = ("One bare scan", "Stopped time", "Throughput and latency", "Pages written", "Migration", "Memory", "Growth",
          "Predictions", "Beside soft-dirty bits", "Restore", "Away")

# Sections 0 and 1 are measured of the same programs.
SECTIONS = (("0|1", section_stop), ("2", section_program), ("3", section_pages), ("4", section_migration),
            ("5", section_memory), ("6", section_growth), ("7", section_predict), ("8", section_soft_dirty),
            ("9", section_restore), ("10", section_blackout))


def machine_line(machine):
    return (f"{machine['date']}: {machine['kernel']}, {machine['cores']} cores of {machine['cpu']}, "
            f"{machine['memory_gib']} GiB, a virtual machine with neighbours; criu {machine['criu']}, "
            f"{machine['wptrack']}; images on {machine['images']}; {machine['turns']} turn(s)"
            + (", small sizes (QUICK)" if machine["quick"] else "")
            + ("" if machine["live"] else "; this criu has no live mode") + ".")


def is_wanted(numbers):
    pattern = os.environ.get("BENCH") or "."
    return any(re.search(pattern, number) for number in numbers.split("|"))


def probe_live(bench):
    program = Load(bench, 1)
    bench.probe_live(program)
    program.end()


def measure(bench, reports):
    """Return: did all sections work?"""
    if not any(is_wanted(numbers) for numbers, _ in SECTIONS):
        print(f"No section matches BENCH={os.environ['BENCH']}: {', '.join(numbers for numbers, _ in SECTIONS)}")
        return False
    probe_live(bench)
    if not bench.has_live:
        print("This criu has no `--pre-dump-mode live`: left out.")
    failed = False
    for numbers, section in SECTIONS:
        if not is_wanted(numbers):
            continue
        start = time.monotonic()
        print(f"{numbers.replace('|', ' and ')}: {TITLES[int(numbers.split('|')[-1])]}", flush=True)
        try:
            section.run(bench, reports)
        except BenchError as err:
            # The others are worth having.
            print(f"  FAILED: {err}", flush=True)
            failed = True
            bench.end_programs()
        print(f"  {time.monotonic() - start:.0f} s", flush=True)
    return not failed


def replace_marked(text, name, content):
    """What is between two marks of a document belongs to us, the rest does not."""
    begin, end = f"<!-- bench {name} -->\n", f"<!-- /bench {name} -->"
    head, found, rest = text.partition(begin)
    _, found_end, tail = rest.partition(end)
    if not found or not found_end:
        raise BenchError(f"{DOC}: no marks for {name}")
    return head + begin + "\n" + content + "\n\n" + end + tail


def write_doc(machine, reports):
    with open(DOC, encoding="utf-8") as doc:
        text = doc.read()
    if os.environ.get("BENCH"):
        for report in reports:
            if report.parts:
                text = replace_marked(text, report.number, machine_line(machine) + "\n\n" + report.text())
    else:
        text = replace_marked(text, "machine", machine_line(machine))
        text = replace_marked(text, "goals", goal_table([goal for report in reports for goal in report.goals]))
        for report in reports:
            # Soft-dirty bits are beside ours in a guest: `make bench-kernels` has that table.
            if report.number != "8" or report.parts:
                text = replace_marked(text, report.number, "\n\n".join(report.parts))
    with open(DOC, "w", encoding="utf-8") as doc:
        doc.write(text)
    drawn = subprocess.run([DRAW_AWAY, DOC], capture_output=True, check=True)
    with open(os.path.join(os.path.dirname(DOC), "away.svg"), "wb") as picture:
        picture.write(drawn.stdout)


def show(machine, reports):
    print("\n" + machine_line(machine))
    for report in reports:
        if report.parts:
            print(f"\n{report.number}. {report.title}\n\n{report.text()}")


def main():
    write_docs = os.environ.get("WRITE_DOCS")
    if os.getuid() != 0:
        sys.exit("bench: must run as root: criu dumps and restores other processes")
    run_below_reaper(sys.argv)
    end_on_signals()
    reports = [Report(str(number), title) for number, title in enumerate(TITLES)]
    bench = Bench()
    try:
        complete = measure(bench, reports)
        machine = bench.machine()
    except BenchError as err:
        sys.exit(f"bench: {err}")
    finally:
        bench.close()
    with open(os.environ.get("BENCH_JSON") or os.path.join(bench.build, "bench.json"), "w", encoding="ascii") as out:
        json.dump({"machine": machine, "goals": [goal for report in reports for goal in report.goals],
                   "sections": {report.number: report.data for report in reports if report.data}}, out, indent=1)
    show(machine, reports)
    if not complete:
        sys.exit("bench: a section has failed" + (", the documentation is left as it was" if write_docs else ""))
    if write_docs:
        write_doc(machine, reports)


main()
