#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""draw-migration.py >docs/migration.svg

Draws a migration in rounds: when the program is stopped, which pages it has written, and which are copied where.
It has a background of its own, so that it can be read on light and dark pages alike."""
import sys

sys.dont_write_bytecode = True
from drawing import begin, rect, text  # pylint: disable=wrong-import-position # the line above is to be before it

WIDTH, HEIGHT = 880, 452
LEFT = 132  # where the lanes begin; their names are before it
ROUND_WIDTH = 172
ACROSS, DOWN, CELL = 8, 4, 14  # the program's pages, and the size of each

BAR, MEMORY, IMAGES, LEGEND = 78, 160, 278, 424  # the lanes, from the top

# One column for each round: name, how wide its stop is drawn, the pages written since the round before, what is copied.
ROUNDS = (
    ("pre-dump", 12, range(ACROSS * DOWN), "all pages"),
    ("pre-dump", 5, (1, 4, 9, 10, 11, 18, 23, 26, 30), "what was written since"),
    ("pre-dump", 5, (4, 10, 11, 23), "what was written since"),
    ("dump", 40, (10, 23), "what was written since"),
)


def arrow(x1, y1, x2, y2):
    return f'<path d="M{x1} {y1}L{x2} {y2}" class="arrow"/>'


def pages(x, y, marked, mark, other):
    """The program's pages as a grid, some of them marked."""
    for page in range(ACROSS * DOWN):
        column, row = page % ACROSS, page // ACROSS
        yield rect(x + column * CELL, y + row * CELL, CELL - 2, CELL - 2, mark if page in marked else other)


def lane_names():
    for y, name, below in (
        (BAR, "The program", "over time"),
        (MEMORY, "Its memory", "at each round"),
        (IMAGES, "The images", "a directory each"),
    ):
        yield text(20, y + 12, name, "head")
        yield text(20, y + 29, below, "faint")


def one_round(number, name, stop, written, copied):
    """A column: the stop in the program's bar, the memory, and the directory that the round makes."""
    x = LEFT + (number - 1) * ROUND_WIDTH
    middle = x + ACROSS * CELL // 2
    yield text(middle, 36, f"{number}. {name}", "head", "middle")
    yield f'<path d="M{middle} 46V{MEMORY - 8}" class="guide"/>'
    yield rect(middle - stop // 2, BAR, stop, 22, "stops", 0)
    yield from pages(x, MEMORY, written, "wrote", "none")
    yield arrow(middle, MEMORY + DOWN * CELL + 4, middle, IMAGES - 16)
    yield rect(x - 8, IMAGES - 8, ACROSS * CELL + 14, DOWN * CELL + 14, "box", 5)
    yield from pages(x, IMAGES, written, "copy", "none")
    yield text(middle, IMAGES + DOWN * CELL + 24, f"/tmp/ck/{number}", "mono", "middle")
    yield text(middle, IMAGES + DOWN * CELL + 42, copied, "faint", "middle")
    if number > 1:
        y = IMAGES + DOWN * CELL // 2
        yield arrow(x - 10, y, x - ROUND_WIDTH + ACROSS * CELL + 14, y)
        yield text(x - (ROUND_WIDTH - ACROSS * CELL) // 2, y - 8, "parent", "faint", "middle")


def legend():
    x = LEFT - 8
    for kind, what, width in (
        ("runs", "runs", 72),
        ("stops", "is stopped", 108),
        ("wrote", "new, or written since the round before", 272),
        ("copy", "copied", 80),
        ("none", "neither written nor copied", 0),
    ):
        yield rect(x, LEGEND - 11, 12, 12, kind)
        yield text(x + 18, LEGEND, what, "faint")
        x += width


def drawing():
    yield from begin(WIDTH, HEIGHT,
                     "A migration: three pre-dumps and a dump, each copies the pages written since the one before")
    yield '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    yield '<path d="M0 0L8 4L0 8z" class="tip"/></marker></defs>'
    yield rect(1, 1, WIDTH - 2, HEIGHT - 2, "paper", 8)
    yield from lane_names()
    end = LEFT + 3 * ROUND_WIDTH + ACROSS * CELL // 2 + ROUNDS[-1][1] // 2
    yield rect(LEFT - 8, BAR, end - LEFT + 8, 22, "runs", 0)
    yield rect(end, BAR, WIDTH - 20 - end, 22, "runs", 0)
    for number, (name, stop, written, copied) in enumerate(ROUNDS, 1):
        yield from one_round(number, name, stop, written, copied)
    for number, what in ((0, "stopped for a moment;"), (1, "in live mode, not at all")):
        yield text(LEFT + number * ROUND_WIDTH + ACROSS * CELL // 2 + 14, BAR + 40, what, "faint")
    yield text(end + 6, BAR + 40, "goes on, restored", "faint")
    yield text(end + 6, BAR + 56, "here or elsewhere", "faint")
    yield from legend()
    yield "</svg>"


print("\n".join(drawing()))
