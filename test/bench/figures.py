# SPDX-License-Identifier: GPL-2.0-only
"""Medians, goals, tables."""
import statistics


def summary(values):
    """What the json has of a figure."""
    values = list(values)
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "turns": len(values)}


def median_of(rows, figure):
    """The median of a figure over turns; figure is a key or a function of a turn."""
    get = figure if callable(figure) else lambda row: row[figure]
    return statistics.median(get(row) for row in rows)


def slope(points):
    """Least squares. Return: (at 0, per unit)."""
    fit = statistics.linear_regression([x for x, _ in points], [y for _, y in points])
    return fit.intercept, fit.slope


def ms(us):
    return f"{us / 1000:.1f} ms" if us < 1e5 else f"{us / 1e6:.2f} s"


def ms_range(values):
    """A median and, of few turns, all there is to say of how they differ."""
    stat = summary(values)
    return f"{ms(stat['median'])} ({stat['min'] / 1000:.1f}-{stat['max'] / 1000:.1f})"


def ratio(value):
    return f"{value:.2f}x" if value < 100 else f"{value:.0f}x"


def size(mib):
    return f"{mib} MiB" if mib < 1024 else f"{mib / 1024:g} GiB"


class Report:
    """What a section has found."""

    def __init__(self, number, title):
        self.number = number
        self.title = title
        self.parts = []
        self.goals = []
        self.data = {}

    def note(self, text):
        self.parts.append(text)

    def table(self, columns, rows):
        lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
        lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
        self.parts.append("\n".join(lines))

    def goal(self, what, limit, value, met):
        """limit and value as they are shown."""
        self.goals.append({"section": self.number, "what": what, "goal": limit, "value": value, "met": bool(met)})

    def at_most(self, what, limit, value, show=ratio):
        self.goal(what, "at most " + show(limit), show(value), value <= limit)

    def keep(self, name, rows):
        """Into the json: what each figure was over the turns, where it is a number."""
        figures = {key for row in rows for key, value in row.items() if isinstance(value, (int, float))}
        self.data[name] = {figure: summary(row[figure] for row in rows if figure in row) for figure in sorted(figures)}

    def text(self):
        parts = list(self.parts)
        if self.goals:
            parts.append(goal_table(self.goals))
        return "\n\n".join(parts)


def goal_table(goals):
    lines = ["| goal | | measured | |", "|---|---|---|---|"]
    lines += [f"| {g['what']} | {g['goal']} | {g['value']} | {'met' if g['met'] else '**not met**'} |" for g in goals]
    return "\n".join(lines)
