"""Answers graded, form by form."""

from __future__ import annotations

import pytest

from proxy.routing.grading import is_correct
from proxy.routing.rows import Item

CHOICES = ("kitchen", "work", "home office")


def item(*answers: str, choices: tuple[str, ...] = ()) -> Item:
    return Item("1", "q", answers, choices)


@pytest.mark.parametrize(
    ("said", "question", "right"),
    [
        ("The Volga.", item("Volga", "Wolga"), True),
        ("It is the river Wolga!", item("Volga", "Wolga"), True),
        ("Volgagrad", item("Volga"), False),
        ("", item("Volga"), False),
        ("So 3 + 4 = 7, and the answer is 1,007.", item("1007"), True),
        ("17 apples. #### 42", item("42"), True),
        ("42 or 43", item("42"), False),
        ("no number", item("42"), False),
        ("Kitchen.", item("kitchen", choices=CHOICES), True),
        ("I think it is home office", item("home office", choices=CHOICES), True),
        ("kitchen or work", item("kitchen", choices=CHOICES), False),
        ("B) something", item("work", choices=CHOICES), True),
        ("(C)", item("work", choices=CHOICES), False),
        ("Z", item("work", choices=CHOICES), False),
        ("**B**", item("work", choices=CHOICES), True),
        ("B\nsince that is so", item("work", choices=CHOICES), True),
        ("A fish", item("kitchen", choices=CHOICES), False),
        ("I'm not sure", item("c8", choices=tuple(f"c{n}" for n in range(9))), False),
        ("Answer: work", item("work", choices=CHOICES), True),
    ],
)
def test_grade(said: str, question: Item, right: bool) -> None:
    assert is_correct(said, question) is right
