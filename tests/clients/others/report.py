"""What the scripts of this folder share: they run in a virtual environment of their own.

A script asks each thing twice, with a question that has to stay home and with one that may leave,
and prints one JSON line for each: what it asked, where it should go, and what its client gave back.
"""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Callable, Mapping

BASE_URL = os.environ["BASE_URL"]
QUESTIONS = {
    "home": "I am Jane Doe, my mail is jane.doe@example.com. Name a long river.",
    "cloud": "Name a long river.",
}
RETRIED = f"{QUESTIONS['home']} (fail once: {os.environ['CLIENT']})"
SENTENCE = "The weather in a city, by its name."


def report(
    asks: Mapping[str, Callable[[str], object]], once: Mapping[str, Callable[[], object]]
) -> None:
    """Ask everything, and say what came back."""
    for name, ask in asks.items():
        for place, question in QUESTIONS.items():
            _say(name, place, lambda ask=ask, question=question: ask(question))
    for name, call in once.items():
        _say(name, "home", call)


def _say(name: str, place: str, call: Callable[[], object]) -> None:
    try:
        value = call()
    except Exception:  # noqa: BLE001  (whatever it is, the test shows it)
        value = {"raised": traceback.format_exc()}
    print(json.dumps({"ask": name, "place": place, "value": value}), flush=True)
