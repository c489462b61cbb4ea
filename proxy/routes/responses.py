"""POST /v1/responses: OpenAI's newer form of a conversation, with function tools.

State is kept at home (`proxy.api.responses`), never at a provider: what leaves asks it to store
nothing. What needs a provider's own state or tools is refused by name.

Source: platform.openai.com/docs/api-reference/responses/create.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from proxy.routes import chat
from proxy.routes.fields import (
    ARRAY,
    BOOLEAN,
    CONVERSATION,
    CONVERSATION_RANGES,
    INTEGER,
    OBJECT,
    STRING,
    TEXT,
    Kind,
    check_parameters,
    invalid,
    optional,
    required,
    shape,
    unsupported,
    wrong_type,
)
from proxy.routes.logprobs import NUM_TOP, cut_entry, read_logprobs
from proxy.routes.responses_events import events
from proxy.routes.responses_home import LOGPROBS, from_chat, to_chat, wants_logprobs
from proxy.routes.route import Abroad, ApiRoute, AtHome, Reading, Scores, Takes
from proxy.types import JSON, JSONObject

PARAMETERS: Final[Mapping[str, Kind]] = {
    **CONVERSATION,
    "include": ARRAY,
    "instructions": STRING,
    "max_output_tokens": INTEGER,
    "parallel_tool_calls": BOOLEAN,
    "previous_response_id": STRING,
    "reasoning": OBJECT,
    "store": BOOLEAN,
    "text": OBJECT,
}

#: Inclusive ranges, as OpenAI documents them.
RANGES: Final[Mapping[str, tuple[float, float]]] = {
    **CONVERSATION_RANGES,
    "max_output_tokens": (1, 2**31),
}

#: What needs a provider's own state or services, with the values that ask for none of it.
REFUSED: Final[Mapping[str, tuple[JSON, ...]]] = {
    "background": (None, False),
    "context_management": (None, []),
    "conversation": (None,),
    "max_tool_calls": (None,),
    "moderation": (None,),
    "prompt": (None,),
    "truncation": (None, "disabled"),
}

ITEMS: Final = frozenset({"message", "function_call", "function_call_output", "reasoning"})
PARTS: Final = frozenset({"input_text", "output_text", "input_image", "input_file", "refusal"})
INCLUDES: Final = frozenset({LOGPROBS, "reasoning.encrypted_content"})
FORMATS: Final = frozenset({"text", "json_object", "json_schema"})
CHOICES: Final = frozenset({"none", "auto", "required"})

_ROLES: Final = ("system", "developer", "user", "assistant")

#: Items and options, as far as the proxy must understand them.
_PART: Final[Mapping[str, JSON]] = {
    "anyOf": [
        shape(type={"enum": ["input_text", "output_text"]}, text=STRING.schema),
        shape(type={"enum": ["input_image", "input_file", "refusal"]}),
    ]
}
_CONTENT: Final[Mapping[str, JSON]] = {"anyOf": [STRING.schema, {"type": "array", "items": _PART}]}
_CALL: Final = {name: STRING.schema for name in ("call_id", "name", "arguments")}
_ITEM: Final[Mapping[str, JSON]] = {
    "anyOf": [
        shape(type={"const": "message"}, role={"enum": list(_ROLES)}, content=_CONTENT),
        shape(type={"const": "function_call"}, **_CALL),
        shape(type={"const": "function_call_output"}, call_id=STRING.schema, output=_CONTENT),
        shape(type={"const": "reasoning"}),
    ]
}
_INPUT: Final[Mapping[str, JSON]] = {
    "anyOf": [{"type": "string", "minLength": 1}, {"type": "array", "minItems": 1, "items": _ITEM}]
}
_FORM: Final[Mapping[str, JSON]] = {
    "anyOf": [
        shape(type={"enum": ["text", "json_object"]}),
        shape(type={"const": "json_schema"}, name=STRING.schema, schema=OBJECT.schema),
    ]
}
_FORMS: Final[Mapping[str, Mapping[str, JSON]]] = {
    "include": {"type": "array", "items": {"enum": sorted(INCLUDES)}},
    "text": {"type": "object", "properties": {"format": _FORM}},
    "tool_choice": {
        "anyOf": [{"enum": sorted(CHOICES)}, shape(type={"const": "function"}, name=STRING.schema)]
    },
    "tools": {
        "type": "array",
        "items": shape(type={"const": "function"}, name=STRING.schema),
    },
}


def check(body: JSONObject) -> None:
    """Check the input, the tools and the parameters."""
    for name, fine in REFUSED.items():
        if not any(body.get(name) == one for one in fine):
            raise unsupported(name)
    check_parameters(body, PARAMETERS, RANGES)
    given = required(body, "input", TEXT)
    if not given:
        raise invalid("input", "must not be empty")
    for index, item in enumerate(given if isinstance(given, list) else ()):
        _check_item(item, f"input[{index}]")
    for index, tool in enumerate(_list(body.get("tools"))):
        if not isinstance(tool, dict) or tool.get("type") != "function":
            raise unsupported(f"tools[{index}].type")
        required(tool, "name", STRING, f"tools[{index}].")
    _check_choices(body)


def _check_choices(body: JSONObject) -> None:
    choice = body.get("tool_choice")
    of_function = isinstance(choice, dict) and choice.get("type") == "function"
    if choice is not None and choice not in list(CHOICES) and not of_function:
        raise unsupported("tool_choice")
    if any(one not in list(INCLUDES) for one in _list(body.get("include"))):
        raise unsupported("include")
    text = body.get("text")
    form = optional(text, "format", OBJECT, "text.") if isinstance(text, dict) else None
    if isinstance(form, dict):
        if required(form, "type", STRING, "text.format.") not in FORMATS:
            raise unsupported("text.format.type")
        if form.get("type") == "json_schema":
            required(form, "name", STRING, "text.format.")
            required(form, "schema", OBJECT, "text.format.")
    if body.get("stream_options") is not None and body.get("stream") is not True:
        raise invalid("stream_options", "is only allowed when `stream` is true")


def _check_item(item: JSON, path: str) -> None:
    if not isinstance(item, dict):
        raise wrong_type(path, OBJECT)
    kind = optional(item, "type", STRING, f"{path}.") or "message"
    if kind not in ITEMS:
        raise unsupported(f"{path}.type")
    if kind == "function_call":
        for name in ("call_id", "name", "arguments"):
            required(item, name, STRING, f"{path}.")
    if kind == "function_call_output":
        required(item, "call_id", STRING, f"{path}.")
        _check_parts(required(item, "output", TEXT, f"{path}."), f"{path}.output")
    if kind == "message":
        role = required(item, "role", STRING, f"{path}.")
        if role not in _ROLES:
            raise invalid(f"{path}.role", "must be system, developer, user or assistant")
        _check_parts(required(item, "content", TEXT, f"{path}."), f"{path}.content")


def _check_parts(content: JSON, path: str) -> None:
    for index, part in enumerate(_list(content)):
        where = f"{path}[{index}]"
        if not isinstance(part, dict):
            raise wrong_type(where, OBJECT)
        kind = required(part, "type", STRING, f"{where}.")
        if kind not in PARTS:
            raise unsupported(f"{where}.type")
        if kind in ("input_text", "output_text"):
            required(part, "text", STRING, f"{where}.")


def is_response(answer: JSONObject) -> bool:
    """Whether ``answer`` is a finished response."""
    return isinstance(answer.get("output"), list) and answer.get("status") in (
        "completed",
        "incomplete",
    )


def texts(answer: JSONObject) -> tuple[str, ...]:
    """What the items of a response say: texts, refusals, arguments, summaries."""
    return tuple(text for item in _list(answer.get("output")) for text in _texts_of(item))


def ask_scores(body: JSONObject) -> JSONObject:
    """What asks a cloud for log-probabilities, beside what the client wants included."""
    wanted = [one for one in _list(body.get("include")) if one != LOGPROBS]
    wished = body.get("top_logprobs")
    num_top = max(NUM_TOP, wished) if isinstance(wished, int) else NUM_TOP
    return {"include": [*wanted, LOGPROBS], "top_logprobs": num_top}


def read_scores(answer: JSONObject) -> Reading | None:
    """The texts of a cloud's response with their tokens; what calls a tool tells none."""
    if not is_response(answer):
        return None
    parts = [part for part, _ in _said(answer)]
    told = [read_logprobs({"content": part.get("logprobs")}, part.get("text")) for part in parts]
    known = all(one.logprobs for one in told)
    ranked = known and all(one.top for one in told)
    return Reading(
        "\n".join(str(part.get("text")) for part in parts),
        tuple(token for one in told for token in one.tokens) if known else (),
        tuple(logprob for one in told for logprob in one.logprobs) if known else (),
        top_logprobs=tuple(place for one in told for place in one.top) if ranked else (),
    )


def hide_scores(answer: JSONObject, body: JSONObject) -> JSONObject:
    """A cloud's response as its client gets it: the log-probabilities it asked for, and no more."""
    wished = body.get("top_logprobs")
    keep = wished if isinstance(wished, int) else 0
    output = list(_list(answer.get("output")))
    for part, (item, place) in _said(answer):
        told = _list(part.get("logprobs")) if wants_logprobs(body) else []
        message = _object(output[item])
        content = list(_list(message.get("content")))
        content[place] = {**part, "logprobs": [cut_entry(one, keep) for one in told]}
        output[item] = {**message, "content": content}
    return {**answer, "output": output}


def _said(answer: JSONObject) -> Iterator[tuple[Mapping[str, JSON], tuple[int, int]]]:
    """The texts that the messages of a response say, and where each stands."""
    for item, message in enumerate(_list(answer.get("output"))):
        for place, part in enumerate(_list(_object(message).get("content"))):
            if _object(part).get("type") == "output_text":
                yield _object(part), (item, place)


def _object(value: JSON) -> Mapping[str, JSON]:
    return value if isinstance(value, dict) else {}


def _texts_of(value: JSON) -> Iterator[str]:
    if not isinstance(value, dict):
        return
    for name in ("text", "refusal", "arguments"):
        if isinstance(said := value.get(name), str):
            yield said
    for name in ("content", "summary"):
        for part in _list(value.get(name)):
            yield from _texts_of(part)


def _list(value: JSON) -> list[JSON]:
    return value if isinstance(value, list) else []


RESPONSES: Final = ApiRoute(
    name="responses",
    path="/responses",
    check=check,
    takes=Takes({"input": _INPUT}, PARAMETERS, RANGES, _FORMS),
    at_home=AtHome("/chat/completions", lambda body: chat.ask(to_chat(body)), chat.read, from_chat),
    abroad=Abroad(
        "/responses",
        is_response,
        {"store": False},
        limits=("max_output_tokens",),
        scores=Scores(ask_scores, read_scores, hide_scores),
    ),
    texts=texts,
    tell=events,
)
