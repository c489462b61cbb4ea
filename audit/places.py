"""Where each record stands in the tree, and which checkpoint put it there."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from audit.checkpoint import Head


@dataclass(frozen=True, slots=True)
class Place:
    """A record's leaf, and the index and time of the checkpoint that seals it."""

    leaf: int
    head: int
    time: str


class Places:
    """The places of all records that ``heads``, from the first on, seal."""

    def __init__(self, heads: Iterable[Head]) -> None:
        self._firsts: dict[str, list[int]] = defaultdict(list)
        self._runs: dict[str, list[tuple[int, Place]]] = defaultdict(list)
        for head in heads:
            leaf = head.size - sum(run.end - run.first for run in head.runs)
            for run in head.runs:
                self._firsts[run.chain].append(run.first)
                self._runs[run.chain].append((run.end, Place(leaf, head.index, head.time)))
                leaf += run.end - run.first

    def of(self, chain: str, seq: int) -> Place | None:
        """The place of record ``seq`` of a chain; None where it is not sealed."""
        firsts = self._firsts.get(chain, [])
        at = bisect_right(firsts, seq) - 1
        if at < 0 or seq >= self._runs[chain][at][0]:
            return None
        place = self._runs[chain][at][1]
        return Place(place.leaf + seq - firsts[at], place.head, place.time)
