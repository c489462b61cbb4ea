"""Readings of a text beyond its letters: what disguises, encodings and layouts hide."""

from __future__ import annotations

from proxy.inspection.views.decode import decode, quoted_printable
from proxy.inspection.views.fold import fold
from proxy.inspection.views.layout import unlayout
from proxy.inspection.views.view import View, excerpt, identity

__all__ = ["View", "other_views"]


def other_views(text: str) -> tuple[View, ...]:
    """The views of ``text`` that differ from it, each cut to what differs.

    They build on each other: folded, then decoded, then put together; so a value that was split,
    encoded and disguised is still read. Where decoding reads on in what it made, each stage is a
    view of its own, and so is each put together.
    """
    raw = identity(text)
    folded = fold(raw)
    stages = decode(folded)
    if stages:
        again = fold(stages[-1])
        stages = (*stages[:-1], again, *decode(again))
    views = [excerpt(folded, "fold")] if folded is not raw else []
    views += [excerpt(stage, "decode") for stage in stages]
    for stage in (folded, *stages):
        joined = unlayout(stage)
        if joined is not stage:
            views.append(excerpt(joined, "layout"))
    quoted = quoted_printable(folded)
    if quoted is not folded:
        views.append(excerpt(unlayout(quoted), "quoted_printable"))
    return tuple(view for view in views if view.is_changed)
