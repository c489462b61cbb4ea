"""What tests of a policy do to a text: forms that hide it, and places of a request it may stand in.

For `forms` and `places` of a case. Every form and place is read by the real inspection.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable, Mapping
from typing import Final

from proxy.types import JSON, JSONObject


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _each(text: str, form: str) -> str:
    return "".join(form.format(ord(char)) for char in text)


def _bytes(text: str, form: str) -> str:
    return "".join(form.format(byte) for byte in text.encode())


def _units(text: str) -> tuple[int, ...]:
    data = text.encode("utf-16-be")
    return tuple(data[at] << 8 | data[at + 1] for at in range(0, len(data), 2))


def _shifted(text: str, offset: int) -> str:
    return "".join(chr(ord(char) + offset) if "!" <= char <= "~" else char for char in text)


def _between(text: str, mark: str) -> str:
    return mark.join(text)


#: Name and making of each form; Unicode's invisible and styled characters, encodings, layouts.
FORMS: Final[Mapping[str, Callable[[str], str]]] = {
    "zero width space": lambda t: _between(t, "\u200b"),
    "zero width joiner": lambda t: _between(t, "\u200d"),
    "word joiner": lambda t: _between(t, "\u2060"),
    "soft hyphen": lambda t: _between(t, "\u00ad"),
    "bidi marks": lambda t: _between(t, "\u202e"),
    "variation selectors": lambda t: _between(t, "\ufe0f"),
    "combining marks": lambda t: _between(t, "\u0336"),
    "hangul filler": lambda t: _between(t, "\u3164"),
    "byte order marks": lambda t: _between(t, "\ufeff"),
    "full width": lambda t: _shifted(t, 0xFEE0),
    "tags": lambda t: "hi" + _shifted(t, 0xE0000),
    "base64": _base64,
    "base64 unpadded": lambda t: _base64(f"it is {t}").rstrip("="),
    "base64 url": lambda t: base64.urlsafe_b64encode(f"it is {t}?>".encode()).decode(),
    "base64 twice": lambda t: _base64(_base64(t)),
    "gzip in base64": lambda t: base64.b64encode(gzip.compress(t.encode(), mtime=0)).decode(),
    "base32": lambda t: base64.b32encode(t.encode()).decode(),
    "hex": lambda t: t.encode().hex(),
    "spaced hex": lambda t: t.encode().hex(" "),
    "percent": lambda t: _bytes(t, "%{:02X}"),
    "percent twice": lambda t: _bytes(t, "%25{:02x}"),
    "entities": lambda t: _each(t, "&#{};"),
    "hex entities": lambda t: _each(t, "&#x{:x};"),
    "json escapes": lambda t: "".join(f"\\u{unit:04x}" for unit in _units(t)),
    "byte escapes": lambda t: _bytes(t, "\\x{:02x}"),
    "quoted printable": lambda t: _bytes(t, "={:02X}"),
    "soft line breaks": lambda t: _bytes(t, "={:02X}=\n"),
    "code fence": lambda t: f"```\nvalue = '{t}'\n```",
    "table": lambda t: f"| a | b |\n|---|---|\n| x | {t} |",
    "diff": lambda t: f"-old\n+{t}\n",
    "json": lambda t: json.dumps({"a": [{"b": t}]}),
}


def _said(*messages: JSON, **more: JSON) -> JSONObject:
    return {"model": "ringfence", "messages": list(messages), **more}


def _ask(**more: JSON) -> JSONObject:
    return _said({"role": "user", "content": "Hello there."}, **more)


def _call(arguments: str) -> JSONObject:
    function: JSONObject = {"name": "look_up", "arguments": arguments}
    call: JSONObject = {"id": "call_1", "type": "function", "function": function}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def _tool(**function: JSON) -> JSONObject:
    return _ask(tools=[{"type": "function", "function": {"name": "look_up", **function}}])


#: Name and making of each place of a chat request.
PLACES: Final[Mapping[str, Callable[[str], JSONObject]]] = {
    "user": lambda t: _said({"role": "user", "content": t}),
    "system": lambda t: _said({"role": "system", "content": t}),
    "developer": lambda t: _said({"role": "developer", "content": t}),
    "assistant": lambda t: _said({"role": "assistant", "content": t}),
    "content part": lambda t: _said({"role": "user", "content": [{"type": "text", "text": t}]}),
    "an earlier turn": lambda t: _said(
        {"role": "user", "content": t},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": "Go on."},
    ),
    "tool arguments": lambda t: _said(_call(json.dumps({"q": t}))),
    "tool result": lambda t: _said(
        _call("{}"), {"role": "tool", "tool_call_id": "call_1", "content": t}
    ),
    "tool description": lambda t: _tool(description=t),
    "tool schema": lambda t: _tool(
        parameters={"type": "object", "properties": {"q": {"type": "string", "enum": [t]}}}
    ),
    "response format": lambda t: _ask(
        response_format={"type": "json_schema", "json_schema": {"name": "a", "description": t}}
    ),
    "prediction": lambda t: _ask(prediction={"type": "content", "content": t}),
    "metadata": lambda t: _ask(metadata={"note": t}),
    "stop": lambda t: _ask(stop=[t]),
    "end user": lambda t: _ask(user=t),
    "unknown field": lambda t: _ask(x_note={"deep": [{"deeper": t}]}),
    "key": lambda t: _ask(x_note={t: 1}),
}
