"""POST /v1/moderations: answered at home, or not at all.

What somebody wants judged is what should least be sent around, so this route never leaves.

Source: platform.openai.com/docs/api-reference/moderations/create.
"""

from __future__ import annotations

from typing import Final

from proxy.routes.fields import SOMETHING, TEXT, invalid, required
from proxy.routes.route import Reading, Takes, stays_home
from proxy.types import JSONObject


def check(body: JSONObject) -> None:
    """Check the input."""
    if not required(body, "input", TEXT):
        raise invalid("input", "must not be empty")


def read(answer: JSONObject) -> Reading | None:
    """A verdict has no log-probabilities."""
    return Reading() if isinstance(answer.get("results"), list) else None


MODERATIONS: Final = stays_home(
    "moderations", "/moderations", check, read, Takes({"input": SOMETHING})
)
