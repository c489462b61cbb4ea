"""Graded exchanges: what both tiers made of one question, and how sure the local model was.

A data file has one JSON object a line, `docs/routing.md` describes it. Nothing here prints a row.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from proxy.errors import SettingsError

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Graded:
    """The answers to one question, graded. A score of None is unknown: such a draft stays local.

    Costs are in US dollars, None where unknown; times in ms. ``cloud_correct`` is None where no
    cloud answer is known.
    ``begun`` is the score of the draft's beginning, by which early commit goes.
    ``features`` are those of `proxy.routing.features`, numbers all.
    """

    id: str
    score: float | None
    has_doubts: bool
    local_correct: bool
    cloud_correct: bool | None = None
    local_ms: float = 0.0
    cloud_ms: float = 0.0
    cloud_cost_usd: float | None = None
    features: Sequence[float | None] | None = None
    begun: float | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """Graded exchanges as columns of shape ``(num_rows,)``; unknown scores and costs are NaN."""

    score: Floats
    doubts: Flags
    local: Flags
    cloud: Flags
    local_ms: Floats
    cloud_ms: Floats
    cost_usd: Floats

    def __len__(self) -> int:
        return len(self.score)

    def escalates(self, threshold: float) -> Flags:
        """Which rows the proxy would escalate at ``threshold``; see `Confidence.is_low`."""
        known = ~np.isnan(self.score)
        return known & ((self.score < threshold) | self.doubts)

    def take(self, rows: NDArray[np.int64]) -> Table:
        """The table of these rows only."""
        return Table(*(getattr(self, name)[rows] for name in self.__slots__))


def table_of(rows: Sequence[Graded]) -> Table:
    """The columns of ``rows``.

    Raises:
        SettingsError: there is none, or one of them has no cloud answer.
    """
    if not rows:
        raise SettingsError("the data holds no question")
    missing = sum(row.cloud_correct is None for row in rows)
    if missing:
        raise SettingsError(
            f"{missing} of {len(rows)} rows have no cloud answer: record them first"
        )
    return Table(
        score=_known([r.score for r in rows]),
        doubts=np.array([r.has_doubts for r in rows], dtype=np.bool_),
        local=np.array([r.local_correct for r in rows], dtype=np.bool_),
        cloud=np.array([bool(r.cloud_correct) for r in rows], dtype=np.bool_),
        local_ms=np.array([r.local_ms for r in rows], dtype=np.float64),
        cloud_ms=np.array([r.cloud_ms for r in rows], dtype=np.float64),
        cost_usd=_known([r.cloud_cost_usd for r in rows]),
    )


def _known(values: Sequence[float | None]) -> Floats:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Item:
    """One question of a data file, with the answers that count and the answers on record."""

    id: str
    question: str = field(repr=False)
    answers: tuple[str, ...] = field(repr=False)
    choices: tuple[str, ...] = field(repr=False, default=())
    local: Mapping[str, Any] | None = field(repr=False, default=None)
    cloud: Mapping[str, Any] | None = field(repr=False, default=None)
    clouds: tuple[Mapping[str, Any], ...] = field(repr=False, default=())  # of several models
    kind: str = field(repr=False, default="")  # what is known of it before it is asked

    def answer_of(self, model: str) -> Mapping[str, Any] | None:
        """The answer of the cloud model ``model`` on record."""
        told = (*self.clouds, *((self.cloud,) if self.cloud else ()))
        return next((one for one in told if one.get("model") == model), None)

    @property
    def prompt(self) -> str:
        """The question as it is put to a model."""
        if not self.choices:
            return self.question
        return self.question + "\nChoose one: " + "; ".join(self.choices)


def read_items(path: Path) -> Iterator[Item]:
    """The questions of a data file.

    Raises:
        SettingsError: the file cannot be read, a line is no question, or two have one id. It names
            the line alone.
    """
    seen: set[str] = set()
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError):
        raise SettingsError(f"{path} cannot be read") from None
    for number, line in enumerate(lines, start=1):
        if line.strip():
            item = item_of(line)
            if item is None:
                raise SettingsError(
                    f"{path}:{number} is no question: it needs id, question, answers; what an "
                    "answer on record holds must be of the kind that docs/routing.md shows"
                )
            if item.id in seen:
                raise SettingsError(f"{path}:{number} has the id of a line above")
            seen.add(item.id)
            yield item


def item_of(line: str) -> Item | None:
    """The question in a line of a data file; None where there is none."""
    try:
        raw = json.loads(line)
    except (ValueError, RecursionError):
        return None
    match raw:
        case {"id": str(name), "question": str(question), "answers": [*answers]} if answers:
            told = {one: raw.get(one) for one in ("local", "cloud")}
            clouds, choices = raw.get("clouds") or [], raw.get("choices") or []
            if not isinstance(clouds, list) or not isinstance(choices, list):
                return None
            if not all(one is None or _is_record(one) for one in (*told.values(), *clouds)):
                return None
            task = raw.get("task")
            return Item(
                name,
                f"{task}\n{question}" if isinstance(task, str) else question,
                tuple(str(one) for one in answers),
                tuple(str(one) for one in choices),
                told["local"],
                told["cloud"],
                tuple(one for one in clouds if one is not None),
                str(raw.get("kind") or ""),
            )
    return None


def _is_record(value: Any) -> bool:
    """Whether ``value`` is an answer on record whose grade, time and cost say what they are.

    "false" in quotes would pass for right, and a time that is no number would make all no numbers.
    """
    if not isinstance(value, dict):
        return False
    numbers = [value.get(name) for name in ("elapsed_ms", "cost_usd")]
    return value.get("correct") in (None, True, False) and all(
        one is None
        or (isinstance(one, int | float) and not isinstance(one, bool) and math.isfinite(one))
        for one in numbers
    )
