"""POST /v1/embeddings: at home by default.

A vector is of use only beside others of the same model, so no draft is ever replaced: a request
goes to the cloud only if it names a cloud model, and stays home if it does not.

Source: platform.openai.com/docs/api-reference/embeddings/create.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from proxy.routes.fields import INTEGER, STRING, TEXTS, Kind, check_parameters, check_texts, invalid
from proxy.routes.route import Abroad, ApiRoute, AtHome, Escalation, Reading, Takes
from proxy.types import JSON, JSONObject

PARAMETERS: Final[Mapping[str, Kind]] = {
    "dimensions": INTEGER,
    "encoding_format": STRING,
    "user": STRING,
}
FORMS: Final[Mapping[str, Mapping[str, JSON]]] = {"encoding_format": {"enum": ["float", "base64"]}}
RANGES: Final = {"dimensions": (1, 65_536)}


def check(body: JSONObject) -> None:
    """Check the input and the parameters."""
    check_texts(body, "input")
    check_parameters(body, PARAMETERS, RANGES)
    if body.get("encoding_format") not in (None, "float", "base64"):
        raise invalid("encoding_format", "must be `float` or `base64`")


def is_list(answer: JSONObject) -> bool:
    """Whether ``answer`` is a list of embeddings."""
    data = answer.get("data")
    return (
        isinstance(data, list)
        and bool(data)
        and all(isinstance(one, dict) and one.get("embedding") for one in data)
    )


def read(answer: JSONObject) -> Reading | None:
    """Vectors have neither words nor log-probabilities."""
    return Reading() if is_list(answer) else None


def ask(body: JSONObject) -> JSONObject:
    """The local tier's body, without who asks."""
    return {name: value for name, value in body.items() if name != "user"}


EMBEDDINGS: Final = ApiRoute(
    name="embeddings",
    path="/embeddings",
    check=check,
    takes=Takes({"input": TEXTS.schema}, PARAMETERS, RANGES, FORMS),
    at_home=AtHome("/embeddings", ask, read, lambda told, _: told),
    abroad=Abroad("/embeddings", is_list),
    texts=lambda _: (),
    escalation=Escalation.BY_MODEL,
)
