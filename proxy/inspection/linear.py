"""Patterns that run in linear time (RE2), one by one or many at a pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Generic, TypeVar

import re2

T = TypeVar("T")

#: What the automaton of a pattern may take, in bytes; beyond it one works on, slower, a set fails.
_MAX_MEMORY = 64 << 20


def compile_linear(pattern: str, max_bytes: int = _MAX_MEMORY) -> Any:
    """``pattern`` as RE2, which reports no pattern on standard error.

    Raises:
        re2.error: it is not RE2, or takes more than ``max_bytes``.
    """
    return re2.compile(pattern, _options(max_bytes))


class LinearSet(Generic[T]):
    """Patterns with what each stands for; a text is passed once to tell which of them match at all.

    Most texts match none, or few: that one pass is most of the time.
    """

    def __init__(self, patterns: Sequence[tuple[T, str]], signs: Sequence[str] = ()) -> None:
        """Compile ``patterns``; ``signs``, one for each, must match wherever they do.

        A long pattern makes the pass slow; a sign is what is short of it.
        """
        self._patterns = [(meaning, compile_linear(pattern)) for meaning, pattern in patterns]
        self._set = re2.Set.SearchSet(_options())
        for sign in signs or [pattern for _, pattern in patterns]:
            self._set.Add(sign)
        self._always = self._set.Add("")
        self._set.Compile()

    def finditer(self, text: str) -> Iterator[tuple[T, Any]]:
        """Every match of every pattern in ``text``, pattern by pattern in their order.

        Raises:
            MemoryError: the pass ran out of memory, so that nobody knows what matches.
        """
        hits = self._set.Match(text) or ()
        if self._always not in hits:  # matches everything: RE2 tells of no failure otherwise
            raise MemoryError("a set of patterns ran out of memory")
        for index in sorted(hits):
            if index == self._always:
                continue
            meaning, pattern = self._patterns[index]
            for match in pattern.finditer(text):
                yield meaning, match


def _options(max_bytes: int = _MAX_MEMORY) -> Any:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = max_bytes
    return options
