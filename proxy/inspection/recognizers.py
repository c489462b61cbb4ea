"""The recognizers that a policy brings along, as data: patterns and word lists.

A set of them is named by its digest, so that a process, a cache and a record can tell which one it
was. `proxy.inspection.custom` reads texts with them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Final

from proxy.types import Category

#: The name of the detector in findings and records.
CUSTOM: Final = "custom"

#: Version of how recognizers are read; a set's own digest comes after it.
_READING: Final = "1"


@dataclass(frozen=True, slots=True)
class Recognizer:
    """A pattern or a list of terms, and what it stands for.

    Exactly one of ``pattern`` (RE2; group 1, where there is one, is the value) and ``terms`` is
    given. Where one of ``context_words`` stands within ``context_window`` characters, the score
    rises by ``context_boost``, to 1 at the most. ``check`` is one of `checksums.CHECKS`.
    ``languages``: texts that are surely in another one are not read; empty: all are read.
    """

    entity: str
    category: Category
    score: float
    pattern: str | None = field(default=None, repr=False)
    terms: tuple[str, ...] = field(default=(), repr=False)
    context_words: tuple[str, ...] = field(default=(), repr=False)
    context_window: int = 0
    context_boost: float = 0.0
    check: str | None = None
    languages: tuple[str, ...] = ()

    @property
    def max_score(self) -> float:
        """The best score that a finding of it can have."""
        return min(self.score + self.context_boost, 1.0)


@dataclass(frozen=True)
class Recognizers:
    """All recognizers of a policy, in an order that their files have no part in."""

    all: tuple[Recognizer, ...] = ()

    @classmethod
    def of(cls, recognizers: Iterable[Recognizer]) -> Recognizers:
        """The set of ``recognizers``."""
        return cls(tuple(sorted(set(recognizers), key=_as_json)))

    @cached_property
    def version(self) -> str:
        """Tells two sets apart; empty for the empty one. Stands in records."""
        if not self.all:
            return ""
        digest = hashlib.sha256("\n".join(map(_as_json, self.all)).encode()).hexdigest()
        return f"{_READING}+{digest[:16]}"

    @property
    def versions(self) -> tuple[tuple[str, str], ...]:
        """Name and version, as of a detector; nothing for the empty set."""
        return ((CUSTOM, self.version),) if self.all else ()


NO_RECOGNIZERS: Final = Recognizers()


def _as_json(recognizer: Recognizer) -> str:
    return json.dumps(asdict(recognizer))
