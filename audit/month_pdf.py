"""The month's record as PDF, by ReportLab (extra `report`): the words and charts of the page."""

from __future__ import annotations

import io
from collections.abc import Sequence
from html import escape
from typing import Any, Final

from reportlab.graphics.shapes import Drawing, Rect, String
from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.platypus import (
    Flowable,
    KeepTogether,
    Paragraph,
    SimpleDocTemplate,
    Spacer,
    Table,
    TableStyle,
)

from audit.charts import COLORS, INK, LINE, Chart
from audit.month import Month, Transfers
from audit.month_html import charts, wording

_SOFT: Final = colors.HexColor("#5c6570")
_BODY: Final = ParagraphStyle("body", fontName="Helvetica", fontSize=9, leading=12.5)
_SMALL: Final = ParagraphStyle("small", _BODY, fontSize=7.6, leading=10, textColor=_SOFT)
_ABOUT: Final = ParagraphStyle("about", _SMALL, keepWithNext=1, spaceAfter=3)
_CELL: Final = ParagraphStyle("cell", _BODY, fontSize=7.8, leading=9.8)
_NUMBER: Final = ParagraphStyle("number", _CELL, alignment=2)
_HEAD: Final = ParagraphStyle("head", _CELL, fontName="Helvetica-Bold", textColor=_SOFT)
_HEAD_NUMBER: Final = ParagraphStyle("headnumber", _HEAD, alignment=2)
_H1: Final = ParagraphStyle("h1", _BODY, fontName="Helvetica-Bold", fontSize=17, leading=21)
_H2: Final = ParagraphStyle("h2", _H1, fontSize=11.5, leading=15, spaceBefore=13, keepWithNext=1)
_FIGURE: Final = ParagraphStyle("figure", _BODY, fontName="Helvetica-Bold", fontSize=15, leading=19)
_WAYS: Final = (("stayed", "stayed on the premises"), ("left", "left"), ("refused", "refused"))
_WIDTH: Final = A4[0] - 36 * mm - 12  # a frame's padding is 6 on each side

Story = list[Flowable]


def month_pdf(month: Month, said: dict[str, str]) -> bytes:
    """The PDF; ``said`` may name ``controller`` and ``purpose``. The same month gives the same."""
    words = wording(month, said)
    story = [
        *_summary(month),
        *_recipients(month, words),
        *_categories(month, words),
        *_measures(month, words),
        *_happened(month),
        *_limits(month, words),
    ]
    out = io.BytesIO()
    document = SimpleDocTemplate(
        out,
        pagesize=A4,
        leftMargin=18 * mm,
        rightMargin=18 * mm,
        topMargin=17 * mm,
        bottomMargin=17 * mm,
        title=f"Transfers to language models, {month.name}",
        author="Ringfence",
        invariant=1,
    )
    document.build(story, onFirstPage=_footer, onLaterPages=_footer)
    return out.getvalue()


def _summary(month: Month) -> Story:
    bad = "#b3261e" if month.uninspected else "#1f6f5c"
    figures = [
        (month.decisions, "requests decided", INK),
        (month.ways["stayed"], "stayed on the premises", INK),
        (month.ways["left"], "left for a destination", INK),
        (month.ways["refused"], "refused", INK),
        (month.uninspected, "left uninspected", bad),
    ]
    cells = [
        [
            _text(f"{num:,}", ParagraphStyle("f", _FIGURE, textColor=colors.HexColor(color))),
            _text(about, _SMALL),
        ]
        for num, about, color in figures
    ]
    box = Table([cells], colWidths=[_WIDTH / 5] * 5)
    box.setStyle(TableStyle([("BOX", (i, 0), (i, 0), 0.5, LINE) for i in range(5)]))
    about = f"In the form of a record of processing activities (GDPR Art. 30(1)), {month.ledger}"
    story: Story = [
        _text(f"Transfers to language models, {month.name}", _H1),
        _text(about, _SMALL),
        Spacer(1, 8),
        box,
        Spacer(1, 10),
    ]
    if month.days:
        story += [_drawing(charts(month)["days"]), _key(_WAYS)]
    return story


def _figure(color: str) -> ParagraphStyle:
    return ParagraphStyle("figure", _FIGURE, textColor=colors.HexColor(color))


def _recipients(month: Month, words: dict[str, Any]) -> Story:
    head = (
        *("recipient", "country", "basis", "kept there", "trains"),
        *("requests", "bytes", "tokens", "cost"),
    )
    rows = [
        (
            f"{who.recipient}\n{who.destination}, {who.provider}, {who.region}",
            who.country,
            words["bases"].get(who.basis, who.basis),
            who.retention,
            "yes" if who.training else "no",
            f"{row.requests:,}"
            + (f"\nin {row.attempts:,} attempts" if row.attempts > row.requests else ""),
            *(f"{num:,}" for num in (row.bytes, row.tokens)),
            words["cost"](row),
        )
        for who, row in words["rows"]
    ]
    unknown = sum(row.unknown for _, row in words["rows"])
    return [
        *_title("Controller and purposes", "Art. 30(1)(a) and (b)"),
        _text(f"Controller: {words['controller']}", _BODY),
        _text(f"Purposes: {words['purpose']}", _BODY),
        *_title("Recipients and transfers", "Art. 30(1)(d) and (e), as the policy named them"),
        _table(head, rows, (96, 38, 90, 50, 32, 46, 58, 51, 56), first_number=5),
        _text(
            f"{month.not_sent} attempts were recorded of which no byte was sent. Of {unknown} that "
            f"are counted above nobody knows whether they arrived. {words['again']}",
            _SMALL,
        ),
    ]


def _categories(month: Month, words: dict[str, Any]) -> Story:
    story = _title("Categories of personal data", "Art. 30(1)(c): requests in which one was found")
    if not month.categories:
        return [*story, _text("None was found in this month.", _BODY)]
    head = (
        "category",
        "stayed",
        *(f"to {who.destination} ({who.country})" for who, _ in words["rows"]),
    )
    rows = [
        (
            name.replace("_", " "),
            f"{month.stayed[name]:,}",
            *(
                f"{row.found[name]:,}"
                + (f"\n{row.masked[name]:,} masked" if row.masked[name] else "")
                for _, row in words["rows"]
            ),
        )
        for name in month.categories
    ]
    names = (*_WAYS[:2], ("masked", "left with every value masked"))
    widths = [110, *[(_WIDTH - 110) / (len(head) - 1)] * (len(head) - 1)]
    chart = _drawing(charts(month)["categories"])
    return [*story, chart, _key(names), _table(head, rows, widths, first_number=1)]


def _found(row: Transfers, category: str) -> str:
    masked = f"\n{row.masked[category]:,} masked" if row.masked[category] else ""
    return f"{row.found[category]:,}{masked}"


def _measures(month: Month, words: dict[str, Any]) -> Story:
    story = _title("Time limits for erasure", "Art. 30(1)(f)")
    story += [_text(f"{who.recipient}: {who.retention}", _BODY) for who, _ in words["rows"]]
    story += [
        _text("This record holds counts, codes and keyed digests, no text of a request.", _BODY),
        *_title("Technical and organisational measures", "Art. 30(1)(g)"),
        _text(
            f"{month.uninspected} requests left that were not inspected to their last string; the "
            f"lowest share of a request that left and was read: {month.lowest_coverage:.1%}",
            _BODY,
        ),
    ]
    policies = "; ".join(f"{name[:26]}… ({num:,})" for name, num in month.policies.most_common(12))
    detectors = ", ".join(f"{name} ({num:,})" for name, num in sorted(month.detectors.items()))
    story.append(_text(f"Policies in force: {policies or 'none'}", _BODY))
    story.append(_text(f"Detectors: {detectors or 'none'}", _BODY))
    if month.apps:
        chart = _drawing(charts(month)["apps"])
        story.append(KeepTogether([*_title("Applications", ""), chart, _key(_WAYS)]))
    return story


def _happened(month: Month) -> Story:
    story = _title("What happened to the proxy itself", "policies, crashes, switch, keys, reviews")
    rows = [
        (
            _when(event["time"]),
            event["kind"],
            ", ".join(
                f"{name} {str(value)[:40]}"
                for name, value in (event.get("detail") or {"reason": event.get("reason")}).items()
            ),
        )
        for event in month.events[:200]
    ]
    story.append(_table(("time (UTC)", "what", "detail"), rows, (90, 90, _WIDTH - 180)))
    if len(month.events) > 200:
        story.append(_text(f"and {len(month.events) - 200} more: ringfence audit query", _SMALL))
    story += _title("For which times it cannot speak", "no checkpoint for more than two minutes")
    gaps = [(_when(gap["from"]), _when(gap["until"]), gap["why"]) for gap in month.gaps[:40]]
    story.append(_table(("from (UTC)", "until", "why"), gaps, (100, 100, _WIDTH - 200)))
    if len(month.gaps) > 40:
        story.append(_text(f"and {len(month.gaps) - 40} more", _SMALL))
    return story


def _when(time: str) -> str:
    return time[:19].replace("T", " ")


def _limits(month: Month, words: dict[str, Any]) -> Story:
    return [
        *_title("What it cannot show", ""),
        *(_text(f"– {limit}", _BODY) for limit in words["limits"]),  # noqa: RUF001
        *_title("How to check it", ""),
        _text("The ledger was verified before this was written. To do so yourself:", _BODY),
        _text(f"ringfence audit verify LEDGER --key '{month.key}'", _BODY),
        _text(f"ringfence audit report LEDGER --month {month.name}", _BODY),
        _text(f"Sealed until {words['sealed']} UTC, {words['size']:,} records, root", _BODY),
        _text(words["root"], _SMALL),
    ]


def _title(title: str, about: str) -> Story:
    return [_text(title, _H2), *([_text(about, _ABOUT)] if about else [])]


def _text(text: str, style: ParagraphStyle) -> Paragraph:
    """A paragraph of plain text: what looks like markup in it is shown as it is."""
    return Paragraph(escape(text, quote=False).replace("\n", "<br/>"), style)


def _table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    widths: Sequence[float],
    first_number: int = 99,
) -> Flowable:
    if not rows:
        return _text("Nothing.", _BODY)
    scaled = [width * _WIDTH / sum(widths) for width in widths]
    titles = [_text(t, _HEAD if i < first_number else _HEAD_NUMBER) for i, t in enumerate(head)]
    cells = [
        [_text(str(t), _CELL if i < first_number else _NUMBER) for i, t in enumerate(row)]
        for row in rows
    ]
    table = Table([titles, *cells], colWidths=scaled, repeatRows=1)
    table.setStyle(
        TableStyle(
            [
                ("LINEBELOW", (0, 0), (-1, 0), 1, LINE),
                ("LINEBELOW", (0, 1), (-1, -1), 0.5, LINE),
                ("VALIGN", (0, 0), (-1, -1), "TOP"),
                ("LEFTPADDING", (0, 0), (-1, -1), 0),
                ("RIGHTPADDING", (0, 0), (-1, -1), 7),
                ("TOPPADDING", (0, 0), (-1, -1), 3),
                ("BOTTOMPADDING", (0, 0), (-1, -1), 3),
            ]
        )
    )
    return table


def _drawing(chart: Chart) -> Drawing:
    scale = _WIDTH / chart.width
    drawing = Drawing(_WIDTH, chart.height * scale)
    for bar in chart.bars:
        y = chart.height - bar.y - bar.height
        color = colors.HexColor(bar.color)
        shape = Rect(bar.x * scale, y * scale, bar.width * scale, bar.height * scale)
        shape.fillColor, shape.strokeColor = color, None
        drawing.add(shape)
    for label in chart.labels:
        drawing.add(
            String(
                *(label.x * scale, (chart.height - label.y) * scale, label.text),
                textAnchor=label.anchor,
                fontName="Helvetica",
                fontSize=8,
                fillColor=colors.HexColor(INK),
            )
        )
    return drawing


def _key(names: Sequence[tuple[str, str]]) -> Paragraph:
    squares = (
        f'<font color="{COLORS[name]}">&#9632;</font> {escape(about)}' for name, about in names
    )
    return Paragraph("&nbsp;&nbsp;&nbsp;".join(squares), _SMALL)


def _footer(canvas: Any, document: Any) -> None:
    canvas.saveState()
    canvas.setFont("Helvetica", 7.5)
    canvas.setFillColor(colors.HexColor("#5c6570"))
    canvas.drawString(18 * mm, 10 * mm, document.title)
    canvas.drawRightString(A4[0] - 18 * mm, 10 * mm, f"page {document.page}")
    canvas.restoreState()
