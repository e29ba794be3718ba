# SPDX-License-Identifier: GPL-2.0-only
"""Section 10: how long a program is away in a migration, as it sees that itself: from its last instruction before the dump to
its first after the restore. What that time is made of, the first second after it, and the memory that it takes beforehand.
ways.py says how."""
from figures import median_of, ms, ms_range, ratio, size
from harness import BenchError
from hosts import PORT
from ways import BEFOREHAND, FROM_CHAIN, LAZY, MIGRATE, PARTS, STOCK, WAYS, Case, by_chain, lazily, migrated

PROCESSES, CLIENTS = 10, 40
GOAL_MS, GOAL_GROWTH = 150, 1.5
LARGE_MIB, LARGE_TURNS = 4096, 2


def cases_of(bench):
    """Sizes in two shapes, then other kinds of programs."""
    sizes = [mib for mib in ((64, 256) if bench.quick else (256, 1024, 4096)) if bench.fits(4 * mib << 20)]
    small = sizes[0]
    found = [Case(mib, kind, options) for mib in sizes for kind, options in (("4K pages", {}), ("huge pages", {"thp": True}))]
    found += [
        Case(small, "AddressSanitizer", {"binary": "load-gcc-asan", "heap": True}, fails={STOCK: "killed by signal 11"}),
        # All private memory is put side by side first: docs/limits.md.
        Case(small, "MemorySanitizer", {"binary": "load-clang-msan", "heap": True},
             fails={STOCK: "Unable to reserve memory", LAZY: "Restore it without --lazy-pages"}),
        Case(small * PROCESSES * 2 // 5, f"{PROCESSES} processes", {"processes": PROCESSES, "all_beat": True}),
        Case(small, f"{CLIENTS} connections", {"listen": PORT}, criu=["--tcp-established"], clients=CLIENTS)]
    return found


def one_turn(bench, case, nr, turns):
    """All ways, which take turns in being the first. Those that read everything take long: of the largest ones, one turn."""
    is_short = case.mib < LARGE_MIB

    def chain():
        ways = FROM_CHAIN if nr % 2 else FROM_CHAIN[::-1]
        for way, row in by_chain(bench, case, ways if is_short or not nr else ()).items():
            turns.setdefault((case, way), []).append(row)

    def lazy():
        if is_short or not nr:
            turns.setdefault((case, LAZY), []).append(lazily(bench, case))

    def migrate():
        turns.setdefault((case, MIGRATE), []).append(migrated(bench, case))

    steps = (chain, lazy, migrate)
    for step in (*steps[nr % 3:], *steps[:nr % 3]):
        step()


def run(bench, reports):
    report = reports[10]
    if not bench.has_live:
        raise BenchError("this criu has no live mode")
    cases, turns = cases_of(bench), {}
    for nr in range(bench.turns):
        for case in cases:
            if case.mib < LARGE_MIB or nr < LARGE_TURNS:
                one_turn(bench, case, nr, turns)
    logged = {case: by_chain(bench, case, (), logged=True)[BEFOREHAND] for case in cases}
    show_away(report, cases, turns)
    show_migrate(report, cases, turns)
    show_parts(report, logged)
    show_first_second(report, cases, turns)
    show_memory(report, cases, turns)
    show_goals(report, cases, turns)
    for (case, way), of in turns.items():
        if is_possible(of):
            report.keep(f"{size(case.mib)}, {case.kind}, {way}", of)


def is_possible(of):
    return all(row is not None for row in of)


def names(case):
    return [size(case.mib), case.kind]


def cell(of, show):
    return show(of) if is_possible(of) else "fails"


def show_away(report, cases, turns):
    rows = []
    for case in cases:
        of = {way: turns[case, way] for way in WAYS}
        faster = median_of(of[STOCK], "away_us") / median_of(of[BEFOREHAND], "away_us") if is_possible(of[STOCK]) else None
        rows.append([*names(case), *(cell(of[way], lambda rows: ms_range(row["away_us"] for row in rows)) for way in WAYS),
                     ratio(faster) if faster else ""])
    report.table(["populated", "as", *(f"away, {way}" for way in WAYS), "stock criu / memory beforehand"], rows)
    report.note("What fails, and criu's words: " +
                "; ".join(f"{case.kind}, {way}: *{words}*" for case in cases for way, words in case.fails.items()) + ".")


def show_migrate(report, cases, turns):
    report.note("Of `wptrack migrate --to`, what it says itself. The dump is what comes before the sending: stop, last copy and "
                "all else that is dumped. With connections, the longest time that a client got nothing.")
    figures = ("dump_us", "copy_us", "sent_us", "restored_us")
    rows = []
    for case in cases:
        of = turns[case, MIGRATE]
        rows.append([*names(case), *(ms_range(row[figure] for row in of) for figure in figures),
                     ms_range(row["pause_us"] for row in of) if case.clients else ""])
    report.table(["populated", "as", "dump", "of that the last copy", "sent", "restored", "longest pause of a client"], rows)


def show_parts(report, logged):
    report.note("Of a restore that had the memory beforehand, and its dump, in a turn with a log. Writing the log takes time "
                "itself, a line for each piece of memory: about 2 ms for 1000 lines. With several processes, each part ends "
                "with the last of them.")
    titles = {"images": "images, forks", "memory": "mappings, last pages", "files": "files", "move": "moved to its place",
              "rest": "network, threads"}
    rows = [[*names(case), ms(row["stop_us"]), ms(row["copy_us"]), *(ms(row[part + "_us"]) for part, _ in PARTS)]
            for case, row in logged.items()]
    report.table(["populated", "as", "stopped by the dump", "of that the last copy", *(titles[part] for part, _ in PARTS)], rows)


def show_first_second(report, cases, turns):
    report.note("The first second after: pages that the program writes, as fast as it can, over those in a second before the "
                "first round, and its page faults.")

    def shown(of):
        return f"{ratio(median_of(of, 'pace'))}, {median_of(of, 'faults'):.0f}"

    report.table(["populated", "as", *WAYS], [[*names(case), *(cell(turns[case, way], shown) for way in WAYS)] for case in cases])


def show_memory(report, cases, turns):
    report.note("What criu has at the destination while it waits for the dump, over what the program has.")
    rows = []
    for case in cases:
        of = turns[case, BEFOREHAND]
        rows.append([*names(case), *(f"{median_of(of, figure) / 1024:.0f} MiB" for figure in ("rss_kb", "pss_kb")),
                     ratio(median_of(of, "pss_share"))])
    report.table(["populated", "as", "RSS", "PSS", "PSS / PSS of the program"], rows)


def show_goals(report, cases, turns):
    plain = [case for case in cases if case.kind == cases[0].kind]
    for way in (BEFOREHAND, MIGRATE):
        smallest, largest = (median_of(turns[case, way], "away_us") for case in (plain[0], plain[-1]))
        report.at_most(f"away, {size(plain[-1].mib)} of 4K pages, {way}", GOAL_MS * 1000, largest, ms)
        report.at_most(f"away, {size(plain[-1].mib)} / {size(plain[0].mib)}, {way}", GOAL_GROWTH, largest / smallest)
