"""What is wrong with the recognizers of a policy: each is built, and tried on its own examples.

A recognizer that does not find what it says it finds protects nothing, so it keeps the policy from
loading.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import re2

from proxy.inspection.custom import CustomDetector
from proxy.inspection.entities import ENTITIES
from proxy.inspection.linear import compile_linear
from proxy.inspection.recognizers import Recognizer
from proxy.inspection.terms import tokens_of
from proxy.policy.language import RecognizerPolicy
from proxy.policy.model import LoadedFile
from proxy.policy.problems import Problem, fault_at
from proxy.policy.reader import Place
from proxy.types import Category, Origin, Role, Segment

#: What a compiled pattern may take, in bytes: RE2's own default. A larger one reads slowly.
MAX_PATTERN_BYTES: Final = 8 << 20

#: A pattern that finds nothing in one of these, of length nothing, takes characters.
_PROBES: Final = ("", "a", " ", "1", "a b", "(-)", "\n")

Files = Sequence[tuple[Path, LoadedFile]]


def recognizer_faults(files: Files) -> Iterator[Problem]:
    """Every fault of the recognizers of ``files``."""
    categories: dict[str, Category] = dict(ENTITIES)
    for file, loaded in files:
        built = zip(loaded.content.recognizers, loaded.recognizers(), strict=True)
        for index, (given, recognizer) in enumerate(built):
            place: Place = ("recognizers", index)
            for inner, code, text, fix in _faults(given, recognizer, loaded, categories):
                said = f"{given.entity}: {text}"
                yield fault_at(file, loaded, (*place, *inner), code, said, fix)
            categories.setdefault(given.entity, given.category)


Fault = tuple[Place, str, str, str]


def _faults(
    given: RecognizerPolicy,
    recognizer: Recognizer,
    loaded: LoadedFile,
    categories: dict[str, Category],
) -> Iterator[Fault]:
    """Place within the recognizer, code, text and mend."""
    if (known := categories.get(given.entity, given.category)) is not given.category:
        text = f"its category is {known.value}, not {given.category.value}"
        yield ("category",), "RF111", text, f"write {known.value}, or name the entity otherwise"
    for list_ in loaded.term_files:
        if list_.name == given.terms_file and list_.problem:
            yield ("terms_file",), "RF110", list_.problem, "mend the list"
            return
    for number, term in enumerate(given.terms):
        if not tokens_of(term):
            yield ("terms", number), "RF110", "a term without a word", "write a word or remove it"
            return
    if given.pattern is not None and (problem := pattern_problem(given.pattern)):
        text, fix = problem
        yield ("pattern",), "RF112", text, fix
        return
    yield from _example_faults(given, recognizer)


def pattern_problem(pattern: str) -> tuple[str, str] | None:
    """What is wrong with a pattern, and the mend."""
    try:
        compiled = compile_linear(pattern, MAX_PATTERN_BYTES)
    except re2.error as error:
        return (
            f"the pattern is not RE2: {_said(error)}",
            "use no look-around, no back-reference and shorter repetitions",
        )
    if any(m.start() == m.end() for probe in _PROBES for m in compiled.finditer(probe)):
        return "the pattern matches nothing at all", "make it take at least one character"
    return None


def _said(error: Exception) -> str:
    said = error.args[0] if error.args else ""
    return said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)


def _example_faults(given: RecognizerPolicy, recognizer: Recognizer) -> Iterator[Fault]:
    detector = CustomDetector([recognizer], version="")
    for key, wanted in (("match", True), ("no_match", False)):
        for number, text in enumerate(getattr(given.examples, key)):
            if bool(detector.detect([_segment(text)])) is not wanted:
                place: Place = ("examples", key, number)
                if wanted:
                    yield place, "RF113", "finds nothing in this example", "mend one of the two"
                else:
                    yield place, "RF113", "finds something in this example", "mend one of the two"


def _segment(text: str) -> Segment:
    return Segment(0, "example", Role.USER, Origin.VALUE, text=text)
