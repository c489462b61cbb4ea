"""Draws the numbers of `bench.detection`: stock Presidio beside Ringfence, one chart a question."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Gray for the baseline, one color for ours: told apart in print and by the color-blind.
_STOCK: Final = "#9aa0a6"
_OURS: Final = "#0b6e4f"
_INK: Final = "#202124"


@dataclass(frozen=True, slots=True)
class Pair:
    """One row of a chart."""

    label: str
    stock: float
    ours: float


def draw(folder: Path, recall: Sequence[Pair], flags: Sequence[Pair], ms: Sequence[Pair]) -> None:
    """Write the three charts into ``folder``.

    Args:
        folder: where they go.
        recall: shares of texts that hold something that were kept home, in [0, 1].
        flags: shares of harmless texts that were kept home, in [0, 1].
        ms: milliseconds for a request.
    """
    _shares(
        folder / "detection-recall.png",
        recall,
        "Texts that hold personal data or secrets: share kept home",
        "more is better; in brackets, the number of texts",
    )
    _shares(
        folder / "detection-flags.png",
        flags,
        "Harmless texts: share kept home all the same",
        "less is better; in brackets, the number of texts",
    )
    load = f"load average {os.getloadavg()[1]:.1f} on {os.cpu_count()} cores"
    _times(folder / "detection-ms.png", ms, f"less is better; log scale; measured at a {load}")


def _shares(path: Path, pairs: Sequence[Pair], title: str, note: str) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 1.3 + 0.42 * len(pairs)), layout="constrained")
    places = range(len(pairs), 0, -1)
    for place, pair in zip(places, pairs, strict=True):
        axes.plot([pair.stock, pair.ours], [place, place], color="#dadce0", lw=3, zorder=1)
    axes.scatter([p.stock for p in pairs], places, s=70, color=_STOCK, label="stock Presidio")
    axes.scatter([p.ours for p in pairs], places, s=70, color=_OURS, label="Ringfence", zorder=3)
    for place, pair in zip(places, pairs, strict=True):
        axes.text(1.04, place, f"{pair.stock:.0%}", color="#5f6368", va="center", ha="left")
        axes.text(1.13, place, f"{pair.ours:.0%}", color=_OURS, va="center", weight="bold")
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(0.4, len(pairs) + 0.6)
    axes.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    axes.grid(axis="x", color="#eceff1")
    _finish(axes, pairs, places, title, note)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _times(path: Path, pairs: Sequence[Pair], note: str) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 1.3 + 0.75 * len(pairs)), layout="constrained")
    places = range(len(pairs), 0, -1)
    rows = ((0.19, _STOCK, "stock Presidio"), (-0.19, _OURS, "Ringfence"))
    for shift, color, name in rows:
        values = [p.ours if name == "Ringfence" else p.stock for p in pairs]
        spots = [place + shift for place in places]
        axes.barh(spots, values, height=0.34, color=color, label=name)
        for spot, value in zip(spots, values, strict=True):
            axes.text(value * 1.08, spot, f"{value:,.0f} ms", va="center", color=_INK)
    axes.set_xscale("log")
    axes.set_xlim(1, 4 * max(max(p.stock, p.ours) for p in pairs))
    axes.set_ylim(0.4, len(pairs) + 0.6)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.grid(axis="x", color="#eceff1")
    _finish(axes, pairs, places, "Milliseconds for a request", note)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _finish(
    axes: Axes, pairs: Sequence[Pair], places: Sequence[int], title: str, note: str
) -> None:
    axes.set_axisbelow(True)
    axes.set_yticks(list(places), [pair.label.replace("_", " ") for pair in pairs])
    axes.tick_params(length=0, colors=_INK)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.minorticks_off()
    axes.set_title(f"{title}\n", loc="left", color=_INK, weight="bold")
    axes.annotate(
        note,
        (0, 1),
        (0, 6),
        xycoords="axes fraction",
        textcoords="offset points",
        color="#5f6368",
        va="bottom",
        size=9,
    )
    if axes.figure is not None:
        axes.figure.legend(loc="outside lower center", ncols=2, frameon=False)
