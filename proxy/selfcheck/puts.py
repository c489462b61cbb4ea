"""How a value is put into the harmless body of a route: beside, before, into what stands there."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from proxy.selfcheck import blobs
from proxy.selfcheck.canaries import Kind, Plant
from proxy.types import JSON, JSONObject

Put = Callable[[JSONObject, Plant], JSONObject]
Shows = Callable[[Plant], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Position:
    """A place or form.

    ``puts`` has the making for each route. ``shows`` are the strings that all stand in a request
    that carries the plant. What has no place in a body stands in it under `HEADERS` or `QUERY`.
    """

    name: str
    kinds: tuple[Kind, ...]
    puts: Mapping[str, Put]
    shows: Shows = lambda plant: (plant.bare,)


#: Members of a body that are sent as something else; see `Position`.
HEADERS: Final = "\0headers"
QUERY: Final = "\0query"

CHAT: Final = "chat"
COMPLETIONS: Final = "completions"
RESPONSES: Final = "responses"
EMBEDDINGS: Final = "embeddings"
MODERATIONS: Final = "moderations"
IMAGES: Final = "images"
SPEECH: Final = "speech"
EDITS: Final = "picture edits"
VARIATIONS: Final = "variations"
TRANSCRIPTIONS: Final = "transcriptions"
TRANSLATIONS: Final = "translations"
#: Routes that take a form, with the field that holds its file.
FORM_ROUTES: Final = {
    EDITS: "image",
    VARIATIONS: "image",
    TRANSCRIPTIONS: "file",
    TRANSLATIONS: "file",
}
TEXT_ROUTES: Final = (CHAT, COMPLETIONS, RESPONSES, EMBEDDINGS)

#: The member that holds the main text of a request without messages.
MAIN: Final = {
    COMPLETIONS: "prompt",
    RESPONSES: "input",
    EMBEDDINGS: "input",
    MODERATIONS: "input",
    IMAGES: "prompt",
    SPEECH: "input",
    EDITS: "prompt",
    TRANSCRIPTIONS: "prompt",
    TRANSLATIONS: "prompt",
}


def more(make: Callable[[Plant], JSONObject]) -> Put:
    """More members beside those of the body."""
    return lambda body, plant: {**body, **make(plant)}


def before(make: Callable[[Plant], list[JSON]]) -> Put:
    """Messages, or items, before the question."""

    def put(body: JSONObject, plant: Plant) -> JSONObject:
        if (messages := body.get("messages")) is not None:
            return {**body, "messages": [*make(plant), *as_list(messages)]}
        question: JSON = {"role": "user", "content": body["input"]}
        return {**body, "input": [*make(plant), question]}

    return put


def said(role: str, make: Callable[[Plant], JSON] = lambda plant: plant.sentence) -> Put:
    """A message of ``role`` before the question."""
    return before(lambda plant: [{"role": role, "content": make(plant)}])


def part(make: Callable[[Plant], JSON]) -> Put:
    """A content part beside the question."""

    def put(body: JSONObject, plant: Plant) -> JSONObject:
        made = make(plant)
        parts = made if isinstance(made, list) else [made]
        if (messages := body.get("messages")) is not None:
            *before, last = as_list(messages)
            asked = last["content"] if isinstance(last, dict) else ""
            content: JSON = [{"type": "text", "text": asked}, *parts]
            return {**body, "messages": [*before, {"role": "user", "content": content}]}
        content = [{"type": "input_text", "text": body["input"]}, *parts]
        return {**body, "input": [{"role": "user", "content": content}]}

    return put


def main(make: Callable[[Plant], str]) -> Mapping[str, Put]:
    """Text after the question itself, on every route that has one."""

    def chat(body: JSONObject, plant: Plant) -> JSONObject:
        (question,) = as_list(body["messages"])
        asked = question["content"] if isinstance(question, dict) else ""
        return {**body, "messages": [{"role": "user", "content": f"{asked} {make(plant)}"}]}

    def plain(member: str) -> Put:
        return lambda body, plant: {**body, member: f"{body[member]} {make(plant)}"}

    return {CHAT: chat, **{route: plain(member) for route, member in MAIN.items()}}


def among(route: str) -> Put:
    """One of many texts."""
    member = MAIN[route]
    return lambda body, plant: {**body, member: [body[member], plant.sentence]}


def as_list(value: JSON) -> list[JSON]:
    """A value that is a list, or an empty one."""
    return value if isinstance(value, list) else []


def only(puts: Mapping[str, Put], *routes: str) -> Mapping[str, Put]:
    """Some of ``puts``."""
    return {route: put for route, put in puts.items() if route in routes}


def every(put: Put, *routes: str) -> Mapping[str, Put]:
    """One put for many routes."""
    return dict.fromkeys(routes, put)


def call(arguments: str, name: str = "look_up") -> JSON:
    """An assistant's message that calls a tool, as chat tells it."""
    function: JSON = {"name": name, "arguments": arguments}
    call: JSON = {"id": "call_1", "type": "function", "function": function}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def item(arguments: str, name: str = "look_up") -> JSON:
    """A call of a tool, as responses tell it."""
    return {"type": "function_call", "call_id": "call_1", "name": name, "arguments": arguments}


def result(text: str) -> JSON:
    """A tool's answer, as chat tells it."""
    return {"role": "tool", "tool_call_id": "call_1", "content": text}


def output(text: str) -> JSON:
    """A tool's answer, as responses tell it."""
    return {"type": "function_call_output", "call_id": "call_1", "output": text}


def tool(make: Callable[[Plant], JSONObject]) -> Mapping[str, Put]:
    """A tool, as chat and as responses describe it."""
    return {
        CHAT: more(lambda p: {"tools": [{"type": "function", "function": named(make(p))}]}),
        RESPONSES: more(lambda p: {"tools": [{"type": "function", **named(make(p))}]}),
    }


def named(function: JSONObject) -> JSONObject:
    """A function with the name that calls use, unless it has one."""
    return {"name": "look_up", **function}


def schema(properties: JSONObject) -> JSONObject:
    """The schema of an object."""
    return {"type": "object", "properties": properties}


def response_format(make: Callable[[Plant], JSONObject]) -> Mapping[str, Put]:
    """A response format, as chat and as responses describe it."""

    def chat(plant: Plant) -> JSONObject:
        described: JSON = {"name": "reply", "schema": schema({}), **make(plant)}
        return {"response_format": {"type": "json_schema", "json_schema": described}}

    def responses(plant: Plant) -> JSONObject:
        described: JSON = {"name": "reply", "schema": schema({}), **make(plant)}
        assert isinstance(described, dict)  # noqa: S101  # for the type checker
        return {"text": {"format": {"type": "json_schema", **described}}}

    return {CHAT: more(chat), RESPONSES: more(responses)}


def image(url: Callable[[Plant], str]) -> Mapping[str, Put]:
    """A picture beside the question."""
    return {
        CHAT: part(lambda p: {"type": "image_url", "image_url": {"url": url(p)}}),
        RESPONSES: part(lambda p: {"type": "input_image", "image_url": url(p)}),
    }


def file_part(data: Callable[[Plant], str], name: str = "notes.txt") -> Mapping[str, Put]:
    """A file beside the question."""
    return {
        CHAT: part(lambda p: {"type": "file", "file": {"filename": name, "file_data": data(p)}}),
        RESPONSES: part(lambda p: {"type": "input_file", "filename": name, "file_data": data(p)}),
    }


def form_file(url: str, name: str = "a.bin") -> JSON:
    """A file of a form, from a data: URL."""
    kind = url.removeprefix("data:").partition(";")[0]
    return {"filename": name, "content_type": kind, "data": url}


def in_form(make: Callable[[Plant], JSON], *routes: str) -> Mapping[str, Put]:
    """Another file in place of the harmless one, on routes that take a form."""

    def put(member: str) -> Put:
        return lambda body, plant: {**body, member: make(plant)}

    return {route: put(FORM_ROUTES[route]) for route in routes}


def recording(note: str) -> str:
    """A WAV with ``note`` in it, as a data: URL."""
    return f"data:audio/wav;base64,{blobs.sound(note)}"


def letters(url: str) -> str:
    """The letters of a data: URL."""
    return url.rsplit(",", 1)[-1]


def drawn(plant: Plant) -> str:
    """A picture of the value's digits."""
    return blobs.picture(str(plant.number))


def noted(plant: Plant) -> str:
    """A picture with the sentence in its header."""
    return blobs.picture("7", plant.sentence)


def codes(plant: Plant) -> list[JSON]:
    """The sentence as character codes."""
    return [ord(char) for char in plant.sentence]


def compact(plant: Plant) -> str:
    """The value in JSON, as arguments hold it."""
    return json.dumps({"q": plant.bare})
