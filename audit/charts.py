"""Small bar charts as shapes, drawn as SVG here and as PDF in `audit.month_pdf`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final, Literal

#: Told apart in gray print and by color-blind readers too (lightness differs).
COLORS: Final = {"stayed": "#1f6f5c", "left": "#d9822b", "refused": "#b9bec6", "masked": "#f0c48f"}
INK: Final = "#3c4450"
LINE: Final = "#d9dde2"

Rows = Sequence[tuple[str, Mapping[str, int]]]


@dataclass(frozen=True, slots=True)
class Bar:
    """A filled rectangle; origin at the upper left, y grows downward."""

    x: float
    y: float
    width: float
    height: float
    color: str
    about: str = ""


@dataclass(frozen=True, slots=True)
class Label:
    """A text whose baseline is at ``y``."""

    x: float
    y: float
    text: str
    anchor: Literal["start", "middle", "end"] = "start"


@dataclass(frozen=True, slots=True)
class Chart:
    """Shapes on a sheet of points."""

    about: str
    width: float
    height: float
    bars: tuple[Bar, ...]
    labels: tuple[Label, ...]


def columns(about: str, rows: Rows, width: float = 660, height: float = 170) -> Chart:
    """One stacked column for each of ``rows``, in the order of `COLORS`."""
    top = nice_top(max((sum(parts.values()) for _, parts in rows), default=0))
    left, bottom, head = 46.0, height - 22, 10.0
    step = (width - left) / max(len(rows), 1)
    scale = (bottom - head) / top
    bars = [Bar(left, bottom - scale * tick, width - left, 0.6, LINE) for tick in (0, top / 2, top)]
    labels = [
        Label(left - 6, bottom - scale * tick + 3, f"{tick:,.0f}", "end")
        for tick in ((0, top / 2, top) if top > 1 else (0, top))
    ]
    every = math.ceil(len(rows) / 16)
    for number, (name, parts) in enumerate(rows):
        x, y = left + number * step + step * 0.15, bottom
        for way in COLORS:
            if count := parts.get(way, 0):
                y -= scale * count
                about_bar = f"{name}: {count:,} {way}"
                bars.append(Bar(x, y, step * 0.7, scale * count, COLORS[way], about_bar))
        if number % every == 0:
            labels.append(Label(x + step * 0.35, height - 8, name, "middle"))
    return Chart(about, width, height, tuple(bars), tuple(labels))


def lines(about: str, rows: Rows, width: float = 660) -> Chart:
    """One stacked bar for each of ``rows``, with its name before and its sum behind."""
    left, right, step = 190.0, 70.0, 22.0
    top = max((sum(parts.values()) for _, parts in rows), default=0) or 1
    scale = (width - left - right) / top
    bars, labels = [], []
    for number, (name, parts) in enumerate(rows):
        x, y = left, number * step + 4
        for way in COLORS:
            if count := parts.get(way, 0):
                about_bar = f"{name}: {count:,} {way}"
                bars.append(Bar(x, y, max(scale * count, 1), 14, COLORS[way], about_bar))
                x += scale * count
        labels.append(Label(left - 8, y + 11, name if len(name) < 32 else f"{name[:30]}…", "end"))
        labels.append(Label(x + 6, y + 11, f"{sum(parts.values()):,}"))
    return Chart(about, width, len(rows) * step + 6, tuple(bars), tuple(labels))


def nice_top(largest: int) -> int:
    """The end of an axis that ``largest`` fits on: 1, 2 or 5 times a power of ten."""
    if largest <= 1:
        return 1
    power = int(10 ** math.floor(math.log10(largest)))
    return int(next(step * power for step in (1, 2, 5, 10) if step * power >= largest))


def to_svg(chart: Chart) -> str:
    """The chart as an SVG element; every text in it is escaped."""
    shapes = [
        f'<rect x="{bar.x:.1f}" y="{bar.y:.1f}" width="{bar.width:.1f}" '
        f'height="{bar.height:.1f}" fill="{bar.color}">'
        + (f"<title>{escape(bar.about)}</title>" if bar.about else "")
        + "</rect>"
        for bar in chart.bars
    ]
    shapes += [
        f'<text x="{label.x:.1f}" y="{label.y:.1f}" text-anchor="{label.anchor}" '
        f'font-size="11" fill="{INK}">{escape(label.text)}</text>'
        for label in chart.labels
    ]
    return (
        f'<svg role="img" aria-label="{escape(chart.about)}" '
        f'viewBox="0 0 {chart.width:.0f} {chart.height:.0f}">{"".join(shapes)}</svg>'
    )
