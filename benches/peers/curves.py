"""Recall against queries per second as an SVG file, with the standard library only.

Recall runs to the right on a scale of the share that is missed (0.9, 0.99 and 0.999 stand equally far apart), queries per second
run up on a logarithmic one: up and to the right is better. Points of a recall below 0.5 are not drawn, and counted in a footnote.
"""

import math
from html import escape

WIDTH, HEIGHT = 860, 520
LEFT, RIGHT, TOP, BOTTOM = 76, 218, 96, 58
LOWEST = 0.5
RECALL_TICKS = [0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 1.0]
# A miss smaller than this is drawn at the right border, which is 1.
LEAST_MISSED = 3e-4
# From dark to light, so that they can be told apart without colour too; ours is the darkest, and wider.
STYLES = [
    ("#14213d", "circle"),
    ("#c1121f", "square"),
    ("#2f7f4f", "triangle"),
    ("#d98200", "diamond"),
    ("#6f8fd8", "cross"),
    ("#b48ead", "ring"),
]


def place(recall):
    return -math.log10(max(1 - recall, 0) + LEAST_MISSED)


def thousands(rate):
    """A rate in three digits: 1,240 or 56,200."""
    digits = max(0, int(math.log10(max(rate, 1))) - 2)
    return f"{round(rate / 10**digits) * 10**digits:,}" if rate >= 100 else f"{rate:.0f}"


class Axes:
    def __init__(self, points):
        recalls, rates = [recall for recall, _ in points], [rate for _, rate in points]
        self.left = place(min(min(recalls), 0.94)) - 0.06
        self.right = place(1) + 0.06
        self.low, self.high = math.log10(min(rates)) - 0.12, math.log10(max(rates)) + 0.12
        if self.high - self.low < 1:
            middle = (self.high + self.low) / 2
            self.low, self.high = middle - 0.5, middle + 0.5

    def x(self, recall):
        return LEFT + (place(recall) - self.left) / (self.right - self.left) * (WIDTH - LEFT - RIGHT)

    def y(self, rate):
        share = (math.log10(rate) - self.low) / (self.high - self.low)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    def recall_ticks(self):
        return [tick for tick in RECALL_TICKS if self.left <= place(tick) <= self.right]

    def rate_ticks(self):
        """Powers of ten, and 2 and 5 times these."""
        powers = range(math.floor(self.low), math.ceil(self.high) + 1)
        ticks = [(step * 10**power, step == 1) for power in powers for step in (1, 2, 5)]
        return [(tick, main) for tick, main in ticks if self.low <= math.log10(tick) <= self.high]


def text(x, y, what, anchor="start", size=13, fill="#222", weight="normal", turn=""):
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{fill}" '
        f'font-weight="{weight}"{turn}>{escape(what)}</text>'
    )


def line(x1, y1, x2, y2, stroke, width=1.0, dash=""):
    dash = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{stroke}" stroke-width="{width}"{dash}/>'


def mark(shape, x, y, colour, size=4.5):
    if shape in ("circle", "ring"):
        fill = colour if shape == "circle" else "#fff"
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size}" fill="{fill}" stroke="{colour}" stroke-width="1.6"/>'
    if shape == "cross":
        return line(x - size, y - size, x + size, y + size, colour, 2) + line(x - size, y + size, x + size, y - size, colour, 2)
    corners = {
        "square": [(-1, -1), (1, -1), (1, 1), (-1, 1)],
        "triangle": [(0, -1.3), (1.2, 0.9), (-1.2, 0.9)],
        "diamond": [(0, -1.4), (1.4, 0), (0, 1.4), (-1.4, 0)],
    }[shape]
    points = " ".join(f"{x + dx * size:.1f},{y + dy * size:.1f}" for dx, dy in corners)
    return f'<polygon points="{points}" fill="{colour}"/>'


def grid(axes):
    low, high = HEIGHT - BOTTOM, TOP
    out = [line(LEFT, low, WIDTH - RIGHT, low, "#222"), line(LEFT, low, LEFT, high, "#222")]
    for tick in axes.recall_ticks():
        x = axes.x(tick)
        out += [line(x, low, x, high, "#e4e4e4"), line(x, low, x, low + 5, "#222")]
        out.append(text(x, low + 20, f"{tick:g}", "middle", 12))
    for tick, main in axes.rate_ticks():
        y = axes.y(tick)
        out += [line(LEFT, y, WIDTH - RIGHT, y, "#d0d0d0" if main else "#efefef"), line(LEFT - 5, y, LEFT, y, "#222")]
        out.append(text(LEFT - 9, y + 4, f"{tick:,.0f}", "end", 12, "#222" if main else "#777"))
    out.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 16, "recall@10", "middle"))
    middle = (TOP + HEIGHT - BOTTOM) / 2
    out.append(text(18, middle, "queries per second", "middle", turn=f' transform="rotate(-90 18 {middle:.0f})"'))
    return out


def apart(wanted, gap, low, high):
    """Heights near the wanted ones, in the same order, at least `gap` apart and between the borders where all fit."""
    order = sorted(range(len(wanted)), key=wanted.__getitem__)
    heights = list(wanted)
    for before, at in zip([None, *order], order):
        heights[at] = max(heights[at], low if before is None else heights[before] + gap)
    for after, at in zip([None, *reversed(order)], reversed(order)):
        heights[at] = min(heights[at], high if after is None else heights[after] - gap)
    return heights


def labels(axes, series):
    """The name of every curve beside its right end, and what is said of it under the name."""
    ends = [max(drawn(one), default=None) for one in series]
    low, gap = HEIGHT - BOTTOM - 20, 34
    heights = apart([axes.y(end[1]) if end else low for end in ends], gap, TOP + 6, low)
    out, x = [], WIDTH - RIGHT + 14
    for one, end, height, (colour, _) in zip(series, ends, heights, STYLES):
        if end:
            out.append(line(axes.x(end[0]) + 6, axes.y(end[1]), x - 3, height, colour, 0.8, "2 3"))
        out.append(text(x, height + 4, one["name"], size=13, fill=colour, weight="bold"))
        out.append(text(x, height + 19, one["note"], size=11, fill="#555"))
    return out


def legend(series):
    out, x = [], LEFT
    for one, (colour, shape) in zip(series, STYLES):
        out += [line(x, 72, x + 26, 72, colour, 2), mark(shape, x + 13, 72, colour), text(x + 32, 76, one["name"], size=12)]
        x += 50 + 7.0 * len(one["name"])
    return out


def drawn(one):
    """The points of a series that are not left out."""
    return [point for point in one["points"] if point[0] >= LOWEST]


def draw(path, title, note, series):
    """Writes a picture of up to six series, ours first: `name`, `points` as (recall, rate), and `note`, which stands beside the curve."""
    if len(series) > len(STYLES):
        raise ValueError(f"{path}: {len(series)} curves, at most {len(STYLES)} can be told apart")
    points = [point for one in series for point in drawn(one)]
    if not points:
        raise ValueError(f"{path}: every point has a recall below {LOWEST}")
    axes, left_out = Axes(points), sum(len(one["points"]) for one in series) - len(points)
    body = [text(LEFT, 28, title, size=18, weight="bold"), text(LEFT, 48, note, size=12, fill="#555")]
    body += legend(series) + grid(axes)
    if left_out:
        body.append(text(LEFT, HEIGHT - 16, f"not drawn: {left_out} points below {LOWEST}", size=11, fill="#777"))
    # Ours last, so that it lies above the others.
    for one, (colour, shape) in reversed(list(zip(series, STYLES))):
        places = [(axes.x(recall), axes.y(rate)) for recall, rate in sorted(drawn(one))]
        joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        width = 3 if one is series[0] else 1.8
        body.append(f'<polyline points="{joined}" fill="none" stroke="{colour}" stroke-width="{width}"/>')
        body += [mark(shape, x, y, colour) for x, y in places]
    body += labels(axes, series)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'font-family="system-ui, \'DejaVu Sans\', sans-serif" role="img">\n<title>{escape(title)}</title>\n'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>\n'
    )
    with open(path, "w", encoding="utf-8") as file:
        file.write(head + "\n".join(body) + "\n</svg>\n")
