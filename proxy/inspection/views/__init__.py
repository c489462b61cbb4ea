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
    encoded and disguised is still read.
    """
    raw = identity(text)
    folded = fold(raw)
    decoded = decode(folded)
    if decoded is not folded:
        decoded = decode(fold(decoded))
    joined = unlayout(decoded)
    quoted = quoted_printable(folded)
    steps = (("fold", raw, folded), ("decode", folded, decoded), ("layout", decoded, joined))
    views = [excerpt(after, name) for name, before, after in steps if after is not before]
    if quoted is not folded:
        views.append(excerpt(unlayout(quoted), "quoted_printable"))
    return tuple(view for view in views if view.is_changed)
