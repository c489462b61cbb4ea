"""POST /v1/chat/completions.

Source: platform.openai.com/docs/api-reference/chat/create.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from proxy.routes.chat_events import events
from proxy.routes.fields import (
    ARRAY,
    BOOLEAN,
    CONVERSATION,
    CONVERSATION_RANGES,
    DECODING,
    DECODING_RANGES,
    INTEGER,
    MAX_CHOICES,
    OBJECT,
    OBJECTS,
    STRING,
    TEXT,
    Kind,
    check_parameters,
    invalid,
    missing,
    optional,
    required,
    shape,
    unsupported,
    wrong_type,
)
from proxy.routes.logprobs import NUM_TOP, as_asked, read_logprobs
from proxy.routes.route import Abroad, ApiRoute, AtHome, Reading, Scores, Takes
from proxy.routes.saying import choices_of, texts_said
from proxy.types import JSON, JSONObject

ROLES: Final = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
#: Optional fields whose type matters to some part of the proxy; null counts as absent.
PARAMETERS: Final[Mapping[str, Kind]] = {
    **CONVERSATION,
    **DECODING,
    "logprobs": BOOLEAN,
    "max_completion_tokens": INTEGER,
    "response_format": OBJECT,
}

#: Inclusive ranges, as OpenAI documents them.
RANGES: Final[Mapping[str, tuple[float, float]]] = {
    **CONVERSATION_RANGES,
    **DECODING_RANGES,
    "max_completion_tokens": (1, 2**31),
    "max_tokens": (1, 2**31),
}

#: Messages, as far as the proxy must understand them.
_PART: Final[Mapping[str, JSON]] = {
    "anyOf": [
        shape(type={"const": "text"}, text=STRING.schema),
        shape(type={"enum": ["image_url", "input_audio", "file", "refusal"]}),
    ]
}
_CONTENT: Final[Mapping[str, JSON]] = {"anyOf": [STRING.schema, {"type": "array", "items": _PART}]}
_MESSAGE: Final[Mapping[str, JSON]] = {
    "anyOf": [
        shape(role={"enum": ["system", "developer", "user"]}, content=_CONTENT),
        shape(role={"const": "tool"}, content=_CONTENT, tool_call_id=STRING.schema),
        shape(role={"enum": ["assistant", "function"]}),
    ]
}
_MESSAGES: Final[Mapping[str, JSON]] = {"type": "array", "minItems": 1, "items": _MESSAGE}

#: Tools that the client runs itself. A provider's own (search, MCP …) would hand the request on to
#: somebody whom no policy names.
TOOL_TYPES: Final = frozenset({"custom", "function"})
_FORMS: Final[Mapping[str, Mapping[str, JSON]]] = {
    "tools": {
        "type": "array",
        "items": {"type": "object", "properties": {"type": {"enum": sorted(TOOL_TYPES)}}},
    },
}

#: What concerns a provider's bookkeeping and not the answer; local servers refuse some of it.
BOOKKEEPING: Final = frozenset(
    "stream stream_options store user metadata safety_identifier service_tier prompt_cache_key "
    "prompt_cache_retention".split()
)


def check(body: JSONObject) -> None:
    """Check the messages and the parameters."""
    messages = required(body, "messages", ARRAY)
    if not isinstance(messages, list) or not messages:
        raise invalid("messages", "must not be empty")
    for index, message in enumerate(messages):
        _check_message(message, f"messages[{index}]")
    check_parameters(body, PARAMETERS, RANGES)
    tools = body.get("tools")
    for index, tool in enumerate(tools if isinstance(tools, list) else ()):
        if isinstance(tool, dict) and tool.get("type", "function") not in list(TOOL_TYPES):
            raise unsupported(f"tools[{index}].type")
    if body.get("web_search_options") is not None:  # as a provider's tools
        raise unsupported("web_search_options")
    check_stream_options(body)
    if body.get("top_logprobs") is not None and body.get("logprobs") is not True:
        raise invalid("top_logprobs", "needs `logprobs` to be true")


def check_stream_options(body: JSONObject) -> None:
    """Stream options belong to a stream."""
    options = body.get("stream_options")
    if isinstance(options, dict):
        if body.get("stream") is not True:
            raise invalid("stream_options", "is only allowed when `stream` is true")
        optional(options, "include_usage", BOOLEAN, "stream_options.")


def is_completion(answer: JSONObject) -> bool:
    """Whether ``answer`` is a chat completion."""
    choices = answer.get("choices")
    return (
        isinstance(choices, list)
        and bool(choices)
        and all(
            isinstance(choice, dict) and _is_message(choice.get("message")) for choice in choices
        )
    )


def _is_message(value: JSON) -> bool:
    """Whether ``value`` is a message whose tool calls can be told."""
    if not isinstance(value, dict):
        return False
    calls, legacy = value.get("tool_calls"), value.get("function_call")
    return (legacy is None or isinstance(legacy, dict)) and (
        calls is None
        or (
            isinstance(calls, list)
            and all(
                isinstance(call, dict) and isinstance(call.get("function"), dict | None)
                for call in calls
            )
        )
    )


def is_chunk(event: JSONObject) -> bool:
    """Whether ``event`` is a chunk of a streamed chat completion."""
    return is_list_of_choices(event, lambda choice: isinstance(choice.get("delta"), dict))


def is_list_of_choices(event: JSONObject, says: Callable[[JSONObject], bool]) -> bool:
    """Whether ``event`` holds choices, or none, each with an index and what it ``says``."""
    choices = event.get("choices")
    return isinstance(choices, list) and all(
        isinstance(choice, dict)
        and INTEGER.holds(choice.get("index"))
        and 0 <= choice["index"] < MAX_CHOICES
        and says(choice)
        for choice in choices
    )


def read(answer: JSONObject) -> Reading | None:
    """The text, tokens and finish reason of all choices; None for what is no chat completion."""
    if not is_completion(answer):
        return None
    choices = choices_of(answer)
    texts = [_text(message.get("content")) for message in _messages(answer)]
    told = [
        read_logprobs(choice.get("logprobs"), text)
        for choice, text in zip(choices, texts, strict=True)
    ]
    known = all(one.logprobs for one in told)
    ranked = known and all(one.top for one in told)
    return Reading(
        "\n".join(texts),
        tuple(token for one in told for token in one.tokens) if known else (),
        tuple(logprob for one in told for logprob in one.logprobs) if known else (),
        str(choices[0].get("finish_reason")),
        tuple(place for one in told for place in one.top) if ranked else (),
    )


def ask(body: JSONObject) -> JSONObject:
    """The local tier's body: without bookkeeping, with log-probabilities, which routing needs."""
    kept = {name: value for name, value in body.items() if name not in BOOKKEEPING}
    return {**kept, "logprobs": True}


def ask_scores(body: JSONObject) -> JSONObject:
    """What asks a cloud for log-probabilities: at least as many as the client wants."""
    wished = body.get("top_logprobs")
    num_top = max(NUM_TOP, wished) if isinstance(wished, int) else NUM_TOP
    return {"logprobs": True, "top_logprobs": num_top}


def answer(told: JSONObject, body: JSONObject) -> JSONObject:
    """An answer as its client gets it: the log-probabilities it asked for, and no more."""
    return as_asked(told, body) if isinstance(told.get("choices"), list) else told


def _messages(answer: JSONObject) -> Iterator[Mapping[str, JSON]]:
    for choice in choices_of(answer):
        message = choice.get("message")
        if isinstance(message, dict):
            yield message


def _text(content: JSON) -> str:
    return content if isinstance(content, str) else ""


def _check_message(message: JSON, path: str) -> None:
    if not isinstance(message, dict):
        raise wrong_type(path, OBJECT)
    role = required(message, "role", STRING, f"{path}.")
    if role not in ROLES:
        raise invalid(f"{path}.role", f"must be one of {', '.join(sorted(ROLES))}")
    content = optional(message, "content", TEXT, f"{path}.")
    if content is None and role not in ("assistant", "function"):
        raise missing(f"{path}.content")
    if isinstance(content, list):
        for index, part in enumerate(content):
            _check_part(part, f"{path}.content[{index}]")
    optional(message, "name", STRING, f"{path}.")
    if role == "tool":
        required(message, "tool_call_id", STRING, f"{path}.")
    optional(message, "tool_calls", OBJECTS, f"{path}.")


def _check_part(part: JSON, path: str) -> None:
    if not isinstance(part, dict):
        raise wrong_type(path, OBJECT)
    if required(part, "type", STRING, f"{path}.") == "text":
        required(part, "text", STRING, f"{path}.")


CHAT: Final = ApiRoute(
    name="chat.completions",
    path="/chat/completions",
    check=check,
    takes=Takes({"messages": _MESSAGES}, PARAMETERS, RANGES, _FORMS),
    at_home=AtHome("/chat/completions", ask, read, answer),
    abroad=Abroad(
        "/chat/completions",
        is_completion,
        limits=("max_completion_tokens", "max_tokens"),
        is_chunk=is_chunk,
        scores=Scores(ask_scores, read, answer),
    ),
    texts=texts_said,
    tell=events,
)
