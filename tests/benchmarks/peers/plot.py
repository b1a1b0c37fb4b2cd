"""The figures as an SVG: text and colours of middle lightness, on nothing, to be read on white and on black."""

from __future__ import annotations

import math
from html import escape

from tests.benchmarks.peers.results import Results

_TEXT, _LINE = "#7d8590", "#7d859055"
_OURS, _FLOOR, _PEER = "#2f81f7", "#3fb950", "#d29922"
_ROW, _LEFT, _WIDTH, _RIGHT = 24, 100, 860, 24
_MARKS = (("median", 5.0), ("p99", 3.5), ("p999", 5.0))


def draw(results: Results) -> str:
    """Return the picture: two strips of what one call costs, and bars of the CPU for one delivered."""
    body: list[str] = []
    top = 30
    for part, title in (
        ("burst", "one call in a burst"),
        ("paced", "one call at 1000 a second"),
    ):
        top = _strips(
            results, part, f"{title}: median \u25cf, p99 \u00b7, p99.9 \u25cb, in \u00b5s (log)", top, body
        )
    top = _bars(results, "CPU for one delivered trigger, in \u00b5s", top, body)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {top}" width="{_WIDTH}" height="{top}"'
        f' font-family="sans-serif" font-size="13" fill="{_TEXT}">\n' + "\n".join(body) + "\n</svg>\n"
    )


def _colour(side: str) -> str:
    return {"brockman": _OURS, "floor": _FLOOR}.get(side, _PEER)


def _at(value: float, low: int, high: int) -> float:
    span = _WIDTH - _LEFT - _RIGHT - 40
    return _LEFT + span * (math.log10(max(value, 10.0**low)) - low) / (high - low)


def _axis(title: str, top: int, rows: int, low: int, high: int, body: list[str]) -> None:
    body.append(f'<text x="{_LEFT}" y="{top - 10}" font-weight="bold">{escape(title)}</text>')
    for power in range(low, high + 1):
        x, bottom = _at(10.0**power, low, high), top + rows * _ROW
        body.append(f'<line x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{bottom}" stroke="{_LINE}"/>')
        body.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{10**power:,}</text>')


def _strips(results: Results, part: str, title: str, top: int, body: list[str]) -> int:
    sides = results.sides_of(part)
    if not sides:
        return top
    _axis(title, top, len(sides), 0, 5, body)
    for row, side in enumerate(sides):
        y, colour = top + row * _ROW + _ROW // 2, _colour(side)
        places = [(_at(results.median(part, side, figure), 0, 5), radius) for figure, radius in _MARKS]
        body.append(f'<text x="{_LEFT - 12}" y="{y + 4}" text-anchor="end">{side}</text>')
        body.append(
            f'<line x1="{places[0][0]:.1f}" y1="{y}" x2="{places[-1][0]:.1f}" y2="{y}" stroke="{colour}"'
            ' stroke-width="2"/>'
        )
        for (x, radius), hollow in zip(places, (False, False, True), strict=True):
            fill = f'fill="none" stroke="{colour}" stroke-width="2"' if hollow else f'fill="{colour}"'
            body.append(f'<circle cx="{x:.1f}" cy="{y}" r="{radius}" {fill}/>')
        label = f"{results.median(part, side, 'p999'):,.0f}"
        body.append(f'<text x="{places[-1][0] + 10:.1f}" y="{y + 4}">{label}</text>')
    return top + len(sides) * _ROW + 60


def _bars(results: Results, title: str, top: int, body: list[str]) -> int:
    sides = results.sides_of("burst")
    if not sides:
        return top
    body.append(f'<text x="{_LEFT}" y="{top - 10}" font-weight="bold">{escape(title)}</text>')
    longest = max(results.median("burst", side, "cpu") for side in sides)
    for row, side in enumerate(sides):
        y, value = top + row * _ROW, results.median("burst", side, "cpu")
        width = (_WIDTH - _LEFT - _RIGHT - 60) * value / longest
        body.append(f'<text x="{_LEFT - 12}" y="{y + 16}" text-anchor="end">{side}</text>')
        body.append(
            f'<rect x="{_LEFT}" y="{y + 5}" width="{width:.1f}" height="{_ROW - 10}" fill="{_colour(side)}"/>'
            f'<text x="{_LEFT + width + 8:.1f}" y="{y + 16}">{value:.1f}</text>'
        )
    return top + len(sides) * _ROW + 10
