"""Whether an answer is right: by choice, by number, or by exact match with any alias.

Source: SQuAD's normalization (Rajpurkar et al., arXiv 1606.05250): lower case, no articles, no
punctuation.
"""

from __future__ import annotations

import re
from typing import Final

from proxy.routing.asking import words_of
from proxy.routing.rows import Item

_NUMBER: Final = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
_ANSWER: Final = re.compile(r"(?is).*(?:\banswer(?:\s+is)?\s*:?\s*|####\s*|\\boxed\{)")
#: A letter alone, or one that a sign sets off: "B", "(b)", "B: Paris"; not "A fish", not "I'm".
_LETTER: Final = re.compile(r"[^\w\s]*\s*([A-Za-z])(?:[^\w\s'\u2019]|\s*(?:\n|$))")


def is_correct(said: str, item: Item) -> bool:
    """Whether ``said`` answers ``item``.

    With choices: the one choice that it names, by its words or its letter. With a number for an
    answer: the last number of the answer span. Else: one of the answers, as words in a row anywhere
    in the span; so a reply that lists much is right, and one that denies it too (`judge`).
    """
    span = _ANSWER.sub("", said)
    if item.choices:
        return _chosen(span, item) in item.answers
    if all(_NUMBER.fullmatch(answer) for answer in item.answers):
        return _number(span) in {_number(answer) for answer in item.answers}
    return any(_holds(words_of(span), words_of(answer)) for answer in item.answers)


def _chosen(span: str, item: Item) -> str | None:
    """The choice that ``span`` names; None where it names none, or more than one."""
    words = words_of(span)
    exact = [choice for choice in item.choices if words_of(choice) == words]
    named = exact or [choice for choice in item.choices if _holds(words, words_of(choice))]
    if len(named) == 1:
        return named[0]
    letter = _LETTER.match(span)
    place = ord(letter[1].upper()) - ord("A") if letter and not named else -1
    return item.choices[place] if 0 <= place < len(item.choices) else None


def _number(text: str) -> float | None:
    found = _NUMBER.findall(text)
    return float(found[-1].replace(",", "")) if found else None


def _holds(said: tuple[str, ...], answer: tuple[str, ...]) -> bool:
    """Whether the words of ``answer`` stand in a row in ``said``."""
    size = len(answer)
    return bool(size) and any(
        said[start : start + size] == answer for start in range(len(said) - size + 1)
    )
