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
TOP, BAR, APART = 74, 12, 12  # the first bar, how high one is, and between groups
COLOURS = {"stock criu": "stops", "patched criu": "wrote", "lazy pages": "faint", "memory beforehand": "copy",
           "wptrack migrate --to": "runs"}
LEAST_MS = 10


def cells_of(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def milliseconds(cell):
    """Return: None, if it says that this way fails."""
    time = re.match(r"([0-9.]+) (ms|s)\b", cell)
    return float(time[1]) * (1000 if time[2] == "s" else 1) if time else None


def read(path):
    """The first table between the marks. Return: (ways, [(what, milliseconds of each way)])."""
    with open(path, encoding="utf-8") as doc:
        part = re.search(r"<!-- bench 10 -->(.*)<!-- /bench 10 -->", doc.read(), re.S).group(1)
    columns, _, *lines = re.search(r"(?:^\|.*\n)+", part, re.M).group(0).splitlines()
    ways = [column.removeprefix("away, ") for column in cells_of(columns) if column.startswith("away, ")]
    rows = [cells_of(line) for line in lines]
    return ways, [(f"{cells[0]}, {cells[1]}", [milliseconds(cell) for cell in cells[2:2 + len(ways)]]) for cells in rows]


def shown(ms):
    return "fails" if ms is None else f"{ms:.0f} ms" if ms < 1000 else f"{ms / 1000:.1f} s"


def drawing(ways, table):
    group = len(ways) * (BAR + 2) + APART
    height = TOP + len(table) * group + 8
    longest = max(ms for _, times in table for ms in times if ms is not None)
    scale = (WIDTH - LEFT - RIGHT) / math.log10(longest / LEAST_MS)

    def length(ms):
        return round(math.log10(max(ms or 0, LEAST_MS) / LEAST_MS) * scale)

    yield from begin(WIDTH, height, "How long a program is away in a migration")
    yield rect(1, 1, WIDTH - 2, height - 2, "paper", 8)
    x = LEFT
    for way in ways:
        yield rect(x, 19, 12, 12, COLOURS[way])
        yield text(x + 18, 30, way, "faint")
        x += 40 + 7 * len(way)
    power = LEAST_MS
    while power <= longest:
        yield text(LEFT + length(power), 58, shown(power), "faint", "middle")
        yield f'<path d="M{LEFT + length(power)} {TOP - 10}V{height - 12}" class="guide"/>'
        power *= 10
    for nr, (what, times) in enumerate(table):
        y = TOP + nr * group
        yield text(20, y + 1.5 * BAR + 4, what, "head")
        for way, ms in enumerate(times):
            yield rect(LEFT, y + way * (BAR + 2), length(ms), BAR, COLOURS[ways[way]], 0)
            yield text(LEFT + length(ms) + 8, y + way * (BAR + 2) + BAR - 3, shown(ms), "faint")
    yield "</svg>"


print("\n".join(drawing(*read(sys.argv[1]))))
