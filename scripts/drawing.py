# SPDX-License-Identifier: GPL-2.0-only
"""What drawings have in common: colours for light and dark pages, text and boxes, as SVG. Each has a background of its own."""

# Colours on a light page, and on a dark one.
LIGHT = {"paper": "#ffffff", "line": "#d0d7de", "ink": "#1f2328", "faint": "#59636e", "none": "#e4e8ec",
         "runs": "#4ac26b", "stops": "#cf222e", "wrote": "#e8912d", "copy": "#2f7fe0"}
DARK = {"paper": "#151b23", "line": "#3d444d", "ink": "#f0f6fc", "faint": "#9da7b3", "none": "#2d3540",
        "runs": "#2ea043", "stops": "#f85149", "wrote": "#e8912d", "copy": "#58a6ff"}
FONTS = """
text { font: 13px -apple-system, 'Segoe UI', 'Noto Sans', 'DejaVu Sans', Helvetica, Arial, sans-serif; }
.head { font-weight: bold; } .faint { font-size: 12px; } .mono { font-family: 'DejaVu Sans Mono', Menlo, Consolas, monospace; }
.box, .arrow { fill: none; stroke-width: 1.5; } .arrow { marker-end: url(#tip); } .guide { stroke-dasharray: 3 3; }
"""


def colours(palette):
    """The rules that colour each kind of thing. Plain ones: not all that draw SVG know variables."""
    rules = [f".{kind} {{ fill: {palette[kind]}; }}" for kind in ("none", "runs", "stops", "wrote", "copy")]
    rules.append(f"text {{ fill: {palette['ink']}; }} .faint, .tip {{ fill: {palette['faint']}; }}")
    rules.append(f".paper {{ fill: {palette['paper']}; }} .paper, .box, .guide {{ stroke: {palette['line']}; }}")
    rules.append(f".arrow {{ stroke: {palette['faint']}; }}")
    return "\n".join(rules)


def begin(width, height, title):
    yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">'
    yield f"<title>{title}</title>"
    yield f"<style>{FONTS}{colours(LIGHT)}\n@media (prefers-color-scheme: dark) {{\n{colours(DARK)}\n}}</style>"


def text(x, y, what, kind="", anchor="start"):
    return f'<text x="{x}" y="{y}" class="{kind}" text-anchor="{anchor}">{what}</text>'


def rect(x, y, width, height, kind, radius=2):
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="{radius}" class="{kind}"/>'
