"""The evaluation as pictures and one HTML page that needs nothing else."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import numpy as np

from proxy.routing.curve import curve, perfect_curve, random_curve
from proxy.routing.evaluation import Arm, Errors, reliability, risk_coverage
from proxy.routing.rows import Table

#: The page of a report, in its folder.
PAGE: Final = "index.html"


def write_report(
    folder: Path, table: Table, told: tuple[Sequence[Arm], Errors], title: str
) -> tuple[Path, ...]:
    """Write the plots and ``index.html`` into ``folder``; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    images = {
        "accuracy-cost.png": _accuracy_plot(table, told[0]),
        "reliability.png": _reliability_plot(table),
        "risk-coverage.png": _risk_plot(table),
    }
    for name, image in images.items():
        (folder / name).write_bytes(image)
    page = folder / PAGE
    page.write_text(_page(title, told, images), encoding="utf-8")
    return (page, *(folder / name for name in images))


def table_rows(arms: Sequence[Arm]) -> list[tuple[str, ...]]:
    """The cells of Table 1, a heading first."""
    head = ("", "right", "95 % interval", "sent", "cloud cost", "mean", "median")
    rows: list[tuple[str, ...]] = [head]
    rows += [
        (
            arm.name,
            f"{arm.accuracy:.1%}",
            f"{arm.low:.1%} - {arm.high:.1%}",
            f"{arm.sent:.1%}",
            "unknown" if arm.cost_usd is None else f"${arm.cost_usd:.4f}",
            f"{arm.mean_ms:,.0f} ms",
            f"{arm.median_ms:,.0f} ms",
        )
        for arm in arms
    ]
    return rows


def error_lines(found: Errors) -> list[str]:
    """The error analysis, a sentence each."""
    return [
        f"{found.sure_and_wrong:.1%} of all were kept at home and are wrong; in "
        f"{found.sure_and_wrong_cloud_right:.1%} the cloud would have been right.",
        f"{found.sent_and_wrong:.1%} were sent and are wrong all the same.",
        f"{found.sent_in_vain:.1%} were sent though the local answer was right.",
        f"{found.unknown:.1%} had no usable log-probabilities and stayed at home.",
    ]


def _figure() -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.grid(alpha=0.3)
    return figure, axes


def _png(figure: Any) -> bytes:
    image = BytesIO()
    figure.savefig(image, format="png", dpi=110)
    return image.getvalue()


def _accuracy_plot(table: Table, arms: Sequence[Arm]) -> bytes:
    figure, axes = _figure()
    score = np.where(np.isnan(table.score), np.inf, table.score)
    for told, style, name in (
        (curve(score, table.local, table.cloud), "-", "by confidence"),
        (random_curve(table.local, table.cloud), "--", "at random"),
        (perfect_curve(table.local, table.cloud), ":", "perfect ordering"),
    ):
        axes.plot(told.share * 100, told.accuracy * 100, style, label=name)
    for arm in arms:
        axes.plot(arm.sent * 100, arm.accuracy * 100, "o", label=arm.name)
    axes.set(xlabel="sent to the cloud (%)", ylabel="right answers (%)")
    axes.legend(fontsize="small")
    return _png(figure)


def _reliability_plot(table: Table) -> bytes:
    figure, axes = _figure()
    told = reliability(table)
    axes.plot(told.score, told.accuracy * 100, "o-")
    axes.set(xlabel="confidence (mean of a tenth of the drafts)", ylabel="right at home (%)")
    axes.set_ylim(0, 102)
    return _png(figure)


def _risk_plot(table: Table) -> bytes:
    figure, axes = _figure()
    coverage, risk = risk_coverage(table)
    axes.plot(coverage * 100, risk * 100)
    axes.set(xlabel="kept at home, surest first (%)", ylabel="wrong among these (%)")
    axes.set_ylim(bottom=0)
    return _png(figure)


def _page(title: str, told: tuple[Sequence[Arm], Errors], images: dict[str, bytes]) -> str:
    head, *body = table_rows(told[0])
    cells = "".join(f"<th>{html.escape(cell)}" for cell in head)
    rows = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}" for cell in row) + "\n" for row in body
    )
    lines = "".join(f"<li>{html.escape(line)}\n" for line in error_lines(told[1]))
    figures = "".join(
        f'<figure><img alt="{name[:-4]}" src="data:image/png;base64,'
        f'{base64.b64encode(image).decode()}"></figure>\n'
        for name, image in images.items()
    )
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Ringfence: evaluation</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 62rem;
  margin: 2rem auto; padding: 0 1rem }}
table {{ border-collapse: collapse }} th, td {{ text-align: right; padding: .3rem .9rem }}
th:first-child, td:first-child {{ text-align: left }} tr + tr {{ border-top: 1px solid #ddd }}
figure {{ display: inline-block; margin: 1rem 0 }} img {{ max-width: 30rem; width: 100% }}
</style>
<h1>Evaluation</h1><p>{html.escape(title)}</p>
<table><tr>{cells}
{rows}</table>
<ul>{lines}</ul>
{figures}</html>
"""
