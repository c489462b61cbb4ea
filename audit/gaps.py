"""The times for which a ledger does not speak: before it, after it, in silence, and once pruned."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Final

from audit.checkpoint import Head
from audit.places import Places
from audit.replay import WAL
from audit.segments import chain_folders, read_segment, removed_leaf, segments_of

#: A silence between two checkpoints beyond this is a gap; a running proxy leaves 60 s at most.
GAP_S: Final = 120.0

#: Why there is a gap.
BEGINS_LATER: Final = "the ledger begins later"
REMOVED: Final = "retention removed records of this time"
SILENCE: Final = "no checkpoint: nothing ran, or nothing could be written"
NOT_SEALED: Final = "not sealed yet"

#: Records of requests; what else a chain holds does not show that requests were recorded.
_REQUEST: Final = re.compile(rb'\{"v":1,"kind":"(?:decision|egress\.)')


def gaps_between(
    heads: Sequence[Head], since: str, until: str, pruned: Collection[int] = ()
) -> list[dict[str, str]]:
    """The parts of a period for which the ledger cannot speak.

    Args:
        heads: the checkpoints, in order.
        since: begin of the period, as records write times; ``until`` is its end.
        pruned: indexes of checkpoints up to which, from the one before, records were removed.
    """
    edges = [
        (since, heads[0].time, BEGINS_LATER),
        *[
            (one.time, two.time, REMOVED if two.index in pruned else SILENCE)
            for one, two in pairwise(heads)
            if two.index in pruned or _seconds(one.time, two.time) > GAP_S
        ],
        (heads[-1].time, until, NOT_SEALED),
    ]
    found: list[dict[str, str]] = []
    for start, end, why in edges:
        first, last = max(start, since), min(end, until)
        if found and found[-1]["until"] == first and found[-1]["why"] == why:
            found[-1]["until"] = max(first, last)
        elif first < last:
            found.append({"from": first, "until": last, "why": why})
    return found


def is_silent(gaps: Iterable[Mapping[str, str]], since: str, until: str) -> bool:
    """Whether ``gaps``, in order, leave nothing of a period."""
    spoken_for = since
    for gap in gaps:
        if gap["from"] <= spoken_for:
            spoken_for = max(spoken_for, gap["until"])
    return spoken_for >= until


def pruned_heads(ledger: Path, heads: Sequence[Head]) -> frozenset[int]:
    """Indexes of the checkpoints that end a time of which records were removed.

    Between two of them no time is spoken for unless a record of a request that stayed is sealed
    there: heartbeats and acts of people alone do not show that nothing left.

    Raises:
        OSError: the ledger cannot be read.
    """
    places = Places(heads)
    touched = {head for head, is_removed in _sealed_by(ledger, places, pruned=True) if is_removed}
    if not touched:
        return frozenset()
    speaking = {head for head, _ in _sealed_by(ledger, places, pruned=False)} - touched
    found: set[int] = set()
    quiet: list[int] = []  # checkpoints since the last removed record, none of which speaks
    does_join = False
    for index in range(min(touched), max(touched) + 1):
        if index in touched:
            found |= {index, *(quiet if does_join else ())}
            quiet, does_join = [], True
        elif index in speaking:
            does_join = False
        else:
            quiet.append(index)
    return frozenset(found)


def _sealed_by(ledger: Path, places: Places, *, pruned: bool) -> Iterator[tuple[int, bool]]:
    """The checkpoint of each removed record (``pruned``), or of each record of a request."""
    for folder in chain_folders(ledger / WAL):
        for segment in segments_of(folder):
            if segment.is_pruned is not pruned:
                continue
            now, data = read_segment(segment)
            for seq, line in enumerate(data.split(b"\n")[:-1], int(segment.stem)):
                is_removed = now.is_pruned and removed_leaf(line) is not None
                if is_removed or (not pruned and _REQUEST.match(line)):
                    place = places.of(folder.name, seq)
                    if place is not None:
                        yield place.head, is_removed


def _seconds(earlier: str, later: str) -> float:
    gap = datetime.fromisoformat(later) - datetime.fromisoformat(earlier)
    return gap.total_seconds()
