"""POST /v1/completions, the older form: a prompt is carried on.

Source: platform.openai.com/docs/api-reference/completions/create.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from proxy.routes.chat import BOOKKEEPING, check_stream_options, is_list_of_choices
from proxy.routes.chat_events import pieces, wants_usage
from proxy.routes.fields import (
    BOOLEAN,
    DECODING,
    DECODING_RANGES,
    INTEGER,
    STRING,
    TEXTS,
    WRITING,
    WRITING_RANGES,
    Kind,
    check_parameters,
    check_texts,
)
from proxy.routes.logprobs import read_logprobs
from proxy.routes.route import Abroad, ApiRoute, AtHome, Reading, Scores, Takes
from proxy.routes.saying import choices_of, texts_said
from proxy.routes.sse import DONE, event
from proxy.types import JSON, JSONObject

PARAMETERS: Final[Mapping[str, Kind]] = {
    **WRITING,
    **DECODING,
    "best_of": INTEGER,
    "echo": BOOLEAN,
    "logprobs": INTEGER,
    "suffix": STRING,
}

#: Inclusive ranges, as OpenAI documents them.
RANGES: Final[Mapping[str, tuple[float, float]]] = {
    **WRITING_RANGES,
    **DECODING_RANGES,
    "best_of": (1, 20),
    "logprobs": (0, 5),
    "max_tokens": (0, 2**31),
}


def check(body: JSONObject) -> None:
    """Check the prompt and the parameters."""
    check_texts(body, "prompt")
    check_parameters(body, PARAMETERS, RANGES)
    check_stream_options(body)


def is_completion(answer: JSONObject) -> bool:
    """Whether ``answer`` is a text completion."""
    choices = answer.get("choices")
    return (
        isinstance(choices, list)
        and bool(choices)
        and all(isinstance(one, dict) and isinstance(one.get("text"), str) for one in choices)
    )


def is_chunk(event: JSONObject) -> bool:
    """Whether ``event`` is a chunk of a streamed completion."""
    return is_list_of_choices(event, lambda choice: isinstance(choice.get("text"), str))


def read(answer: JSONObject) -> Reading | None:
    """The text, tokens and finish reason of all choices; None for what is no completion."""
    if not is_completion(answer):
        return None
    choices = choices_of(answer)
    told = [
        read_logprobs(_in_new_form(choice.get("logprobs")), choice.get("text"))
        for choice in choices
    ]
    known = all(one.logprobs for one in told)
    return Reading(
        "\n".join(str(choice.get("text")) for choice in choices),
        tuple(token for one in told for token in one.tokens) if known else (),
        tuple(logprob for one in told for logprob in one.logprobs) if known else (),
        str(choices[0].get("finish_reason")),
    )


def ask(body: JSONObject) -> JSONObject:
    """The local tier's body, with the log-probabilities that routing needs."""
    kept = {name: value for name, value in body.items() if name not in BOOKKEEPING}
    return {**kept, **ask_scores(body)}


def ask_scores(body: JSONObject) -> JSONObject:
    """What asks for log-probabilities: as many as the client wants, and one at least."""
    return {"logprobs": body.get("logprobs") or 1}


def answer(told: JSONObject, body: JSONObject) -> JSONObject:
    """An answer as its client gets it: log-probabilities only if it asked for them."""
    if body.get("logprobs") is not None:
        return told
    return {**told, "choices": [{**choice, "logprobs": None} for choice in choices_of(told)]}


def events(body: JSONObject, request_body: JSONObject) -> Iterator[bytes]:
    """The answer as server-sent events, ending in ``[DONE]``."""
    usage = wants_usage(request_body)
    frame = {name: value for name, value in body.items() if name not in ("choices", "usage")}
    if usage:
        frame["usage"] = None
    for choice in choices_of(body):
        for told in _told(choice):
            yield event({**frame, "choices": [told]})
    if usage:
        yield event({**frame, "choices": [], "usage": body.get("usage")})
    yield DONE


def _told(choice: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A choice in pieces; its log-probabilities, if it has any, go with the first."""
    index, scores = choice.get("index", 0), choice.get("logprobs")
    for piece, _ in pieces(choice.get("text"), []):
        yield {"index": index, "text": piece, "logprobs": scores, "finish_reason": None}
        scores = None
    finish = choice.get("finish_reason")
    yield {"index": index, "text": "", "logprobs": scores, "finish_reason": finish}


def _in_new_form(logprobs: JSON) -> JSON:
    """Log-probabilities of the older form as chat completions tell them."""
    match logprobs:
        case {"tokens": list(tokens), "token_logprobs": list(values)}:
            pairs = zip(tokens, values, strict=False)
            return {"content": [{"token": token, "logprob": value} for token, value in pairs]}
    return None


COMPLETIONS: Final = ApiRoute(
    name="completions",
    path="/completions",
    check=check,
    takes=Takes({"prompt": TEXTS.schema}, PARAMETERS, RANGES),
    at_home=AtHome("/completions", ask, read, answer),
    abroad=Abroad(
        "/completions",
        is_completion,
        limits=("max_tokens",),
        usual_limit=16,
        is_chunk=is_chunk,
        scores=Scores(ask_scores, read, answer),
    ),
    texts=texts_said,
    tell=events,
)
