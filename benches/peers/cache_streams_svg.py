#!/usr/bin/env python3
"""Draws the results of benches/cache_streams.rs: for each domain the share of requests that is answered against the share that is
answered wrongly, along thresholds, with and without guard; and where the calibrated thresholds came out.

  python3 benches/peers/cache_streams_svg.py RESULT.json DRAWING.svg        # the standard library only
"""
import json
import sys
from html import escape

WIDTH, HEIGHT, COLUMNS = 300, 230, 3
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 34, 36
MOST_ERROR, MOST_HITS = 0.03, 0.8
STYLE = (
    "text{font:11px sans-serif;fill:#222}.b{font-weight:bold}.g{stroke:#ddd}.t{stroke:#b3261e;stroke-dasharray:4 3}"
    ".w{fill:none;stroke:#14213d;stroke-width:2}.o{fill:none;stroke:#6f8fd8;stroke-width:2;stroke-dasharray:6 3}"
)


def panel(left, top, name, domain):
    def x(error):
        return left + LEFT + (WIDTH - LEFT - RIGHT) * min(error / MOST_ERROR, 1)

    def y(hits):
        return top + HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * min(hits / MOST_HITS, 1)

    def line(style, hits, error):
        inside = [point for point in domain["curve"] if point[error] <= MOST_ERROR]
        points = " ".join(f"{x(point[error]):.1f},{y(point[hits]):.1f}" for point in inside)
        return f'<polyline class="{style}" points="{points}"/>'

    out = [f'<text class="b" x="{left + LEFT}" y="{top + 20}">{escape(name)}</text>']
    for hits in (0, 0.2, 0.4, 0.6, 0.8):
        out.append(f'<path class="g" d="M{x(0):.1f} {y(hits):.1f}H{x(1):.1f}"/>')
        out.append(f'<text x="{x(0) - 4:.1f}" y="{y(hits) + 4:.1f}" text-anchor="end">{hits:.0%}</text>')
    for error in (0, 0.01, 0.02, 0.03):
        out.append(f'<text x="{x(error):.1f}" y="{y(0) + 15:.1f}" text-anchor="middle">{error:.0%}</text>')
    out.append(f'<path class="t" d="M{x(0.01):.1f} {y(0):.1f}V{y(1):.1f}"/>')
    out += [line("w", 1, 2), line("o", 3, 4)]
    for key, fill in (("calibrated", "#14213d"), ("calibrated_and_verified", "#c1121f")):
        point = domain[key]
        at = f'cx="{x(point["error_per_request"]):.1f}" cy="{y(point["hit_rate"]):.1f}"'
        out.append(f'<circle {at} r="5" fill="{fill}"/>')
    return out


def main():
    source, target = sys.argv[1:3]
    with open(source) as file:
        result = json.load(file)
    domains = result["domains"]
    rows = -(-len(domains) // COLUMNS)
    width, height = WIDTH * COLUMNS, HEIGHT * rows + 60
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">',
        f'<style>{STYLE}</style><rect width="100%" height="100%" fill="#fff"/>',
        f'<text class="b" x="8" y="18">Answered (up) against answered wrongly (right), of all requests; vectors: '
        f'{escape(result["embed"])}</text>',
        '<text x="8" y="36">dark: with guard; light, dashed: without; dots: threshold calibrated on the other half for 1 % '
        "(dark), and with the verified bound (red)</text>",
    ]
    for i, (name, domain) in enumerate(domains.items()):
        out += panel(i % COLUMNS * WIDTH, 50 + i // COLUMNS * HEIGHT, name, domain)
    with open(target, "w") as file:
        file.write("\n".join(out) + "\n</svg>\n")


if __name__ == "__main__":
    main()
