#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""draw-away.py docs/performance.md >docs/away.svg

Draws how long a program is away in a migration, as the table of the benchmark says (section 10): a bar for each way to
restore it, on a scale of powers of ten."""
import math
import re
import sys

sys.dont_write_bytecode = True
from drawing import begin, rect, text  # pylint: disable=wrong-import-position # the line above is to be before it

WIDTH, LEFT, RIGHT = 880, 190, 110  # names are before LEFT; RIGHT is for the figure of the longest bar
TOP, BAR, GROUP = 74, 12, 68  # the first bar, how high one is, and from group to group
WAYS = (("stops", "restored by stock criu"), ("wrote", "by the patched criu"),
        ("copy", "its memory beforehand (--pre-restore)"), ("runs", "wptrack migrate --to"))
LEAST_MS = 10


def rows(path):
    """(what, milliseconds of each way), of the table between the marks."""
    with open(path, encoding="utf-8") as doc:
        table = re.search(r"<!-- bench 10 -->(.*)<!-- /bench 10 -->", doc.read(), re.S).group(1)
    for line in table.split("\n"):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        times = [re.match(r"([0-9.]+) (ms|s)\b", cell) for cell in cells[2:2 + len(WAYS)]]
        if len(times) == len(WAYS) and all(times):
            yield f"{cells[0]}, {cells[1]}", [float(time[1]) * (1000 if time[2] == "s" else 1) for time in times]


def shown(ms):
    return f"{ms:.0f} ms" if ms < 1000 else f"{ms / 1000:.1f} s"


def drawing(table):
    height = TOP + len(table) * GROUP + 8
    longest = max(max(times) for _, times in table)
    scale = (WIDTH - LEFT - RIGHT) / math.log10(longest / LEAST_MS)

    def length(ms):
        return round(math.log10(max(ms, LEAST_MS) / LEAST_MS) * scale)

    yield from begin(WIDTH, height, "How long a program is away in a migration")
    yield rect(1, 1, WIDTH - 2, height - 2, "paper", 8)
    x = LEFT
    for kind, what in WAYS:
        yield rect(x, 19, 12, 12, kind)
        yield text(x + 18, 30, what, "faint")
        x += 40 + 7 * len(what)
    power = LEAST_MS
    while power <= longest:
        yield text(LEFT + length(power), 58, shown(power), "faint", "middle")
        yield f'<path d="M{LEFT + length(power)} {TOP - 10}V{height - 12}" class="guide"/>'
        power *= 10
    for nr, (what, times) in enumerate(table):
        y = TOP + nr * GROUP
        yield text(20, y + 1.5 * BAR + 4, what, "head")
        for way, ms in enumerate(times):
            yield rect(LEFT, y + way * (BAR + 2), length(ms), BAR, WAYS[way][0], 0)
            yield text(LEFT + length(ms) + 8, y + way * (BAR + 2) + BAR - 3, shown(ms), "faint")
    yield "</svg>"


print("\n".join(drawing(list(rows(sys.argv[1])))))
