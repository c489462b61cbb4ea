"""A scripted upstream for other people's clients: it answers by the form of the request alone.

A stand-in, not a model. One of it plays the local endpoint, another the cloud, and each says which
one it is, so that a test sees where an answer came from.
"""

from __future__ import annotations

import base64
import json
import struct
import threading
from collections.abc import Mapping
from typing import Any, Final

from demo.stand_in_cloud import Recorded, Reply

#: What each tier puts into any string that a schema asks for, and both into any number. The strings
#: differ, since what a pinned exchange said pins whoever says it again.
CITIES: Final = {"home": "Lagos", "cloud": "Abuja"}
DEGREES: Final = 31

#: A question with these words fails the first time, so that a client has something to retry.
FAIL_ONCE: Final = "fail once"

VECTOR: Final = (0.5, 0.25)  # exact as 32-bit floats


class Script:
    """The replies of one tier."""

    def __init__(self, place: str) -> None:
        """``place`` (home, cloud) is named in every text."""
        self._place = place
        self._failed: set[str] = set()
        self._lock = threading.Lock()

    def __call__(self, recorded: Recorded) -> Reply:
        """The reply to a request."""
        if recorded.path.endswith("/models"):
            return Reply(body=json.dumps({"object": "list", "data": []}).encode())
        body = json.loads(recorded.body)
        if recorded.path.endswith("/embeddings"):
            return Reply(body=json.dumps(_embeddings(body)).encode())
        if self._fails(body):
            return Reply(status=500, body=b'{"error": {"message": "scripted"}}')
        return Reply(body=json.dumps(self._completion(body)).encode())

    def _fails(self, body: Mapping[str, Any]) -> bool:
        asked = json.dumps(body["messages"])
        with self._lock:
            fails = FAIL_ONCE in asked and asked not in self._failed
            self._failed.add(asked)
        return fails

    def _completion(self, body: Mapping[str, Any]) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": None}
        arguments = ""
        finish = "stop"
        schema = body.get("response_format", {}).get("json_schema", {}).get("schema")
        if body["messages"][-1]["role"] == "tool":
            message["content"] = f"It is sunny there ({self._place})."
        elif body.get("tools") and body.get("tool_choice") != "none":
            function = body["tools"][0]["function"]
            arguments = json.dumps(self._filled(function["parameters"]))
            called = {"name": function["name"], "arguments": arguments}
            message["tool_calls"] = [{"id": "call_1", "type": "function", "function": called}]
            finish = "tool_calls"
        elif schema is not None:
            message["content"] = json.dumps(self._filled(schema))
        else:
            message["content"] = f"The Volga is a long river ({self._place})."
        written = message["content"] or arguments  # a server's log-probabilities cover either
        return {
            "id": "chatcmpl-scripted",
            "object": "chat.completion",
            "created": 1,
            "model": body["model"],
            "choices": [
                {
                    "index": 0,
                    "message": message,
                    "logprobs": _logprobs(written),
                    "finish_reason": finish,
                }
            ],
            "usage": {"prompt_tokens": 20, "completion_tokens": 9, "total_tokens": 29},
        }

    def _filled(self, schema: Mapping[str, Any]) -> dict[str, object]:
        """An object of ``schema``: the city for each string, the degrees for each number."""
        kinds = {"string": CITIES[self._place], "integer": DEGREES, "number": DEGREES}
        return {name: kinds[what["type"]] for name, what in schema["properties"].items()}


def _logprobs(text: str) -> dict[str, Any]:
    return {
        "content": [
            {"token": word, "logprob": -0.9 - place / 100, "bytes": None, "top_logprobs": []}
            for place, word in enumerate(text.split())
        ],
        "refusal": None,
    }


def _embeddings(body: Mapping[str, Any]) -> dict[str, Any]:
    texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
    vector: object = list(VECTOR)
    if body.get("encoding_format") == "base64":
        vector = base64.b64encode(struct.pack("<2f", *VECTOR)).decode()
    return {
        "object": "list",
        "model": body["model"],
        "data": [
            {"object": "embedding", "index": place, "embedding": vector}
            for place, _ in enumerate(texts)
        ],
        "usage": {"prompt_tokens": 4, "total_tokens": 4},
    }
