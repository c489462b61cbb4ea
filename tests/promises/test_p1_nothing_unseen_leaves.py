"""P1: every string in an outgoing body was inspected for this very decision, or is structural."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx2
import pytest

from demo.stand_in_cloud import ANSWER, StandInCloud
from proxy.inspection.structural import is_structural
from tests.harness import RunningProxy

SECRET = "jane.doe@example-mail.com"
CLEAN = "Name the longest river in Europe."


def texts(value: object) -> Iterator[str]:
    """Every string and key of a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, member in value.items():
            yield key
            yield from texts(member)
    elif isinstance(value, list):
        for member in value:
            yield from texts(member)


def a_body(**more: object) -> dict[str, object]:
    return {
        "model": "ringfence",
        "messages": [{"role": "user", "content": CLEAN}],
        "max_tokens": 4,
        **more,
    }


PLACES = {
    "system": a_body(
        messages=[
            {"role": "system", "content": f"Write to {SECRET}."},
            {"role": "user", "content": CLEAN},
        ]
    ),
    "developer": a_body(
        messages=[
            {"role": "developer", "content": f"Write to {SECRET}."},
            {"role": "user", "content": CLEAN},
        ]
    ),
    "earlier turn": a_body(
        messages=[
            {"role": "user", "content": f"I am {SECRET}."},
            {"role": "assistant", "content": "Noted."},
            {"role": "user", "content": CLEAN},
        ]
    ),
    "name": a_body(messages=[{"role": "user", "name": SECRET, "content": CLEAN}]),
    "content part": a_body(
        messages=[
            {
                "role": "user",
                "content": [{"type": "text", "text": CLEAN}, {"type": "text", "text": SECRET}],
            }
        ]
    ),
    "stop": a_body(stop=[SECRET]),
    "user": a_body(user=SECRET),
    "metadata": a_body(metadata={"owner": SECRET}),
    "metadata key": a_body(metadata={SECRET: "owner"}),
    "logit bias key": a_body(logit_bias={SECRET: 1}),
    "unknown field": a_body(x_notes=SECRET),
    "unknown field, deep": a_body(x={"a": [{"b": {"c": [SECRET]}}]}),
    "unknown key": a_body(x={SECRET: True}),
    "prediction": a_body(prediction={"type": "content", "content": SECRET}),
    "response format": a_body(
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "n", "schema": {"type": "object", "title": SECRET}},
        }
    ),
    "tool description": a_body(
        tools=[{"type": "function", "function": {"name": "send", "description": SECRET}}]
    ),
    "tool schema enum": a_body(
        tools=[
            {
                "type": "function",
                "function": {
                    "name": "send",
                    "parameters": {"properties": {"to": {"enum": [SECRET]}}},
                },
            }
        ]
    ),
    "tool call arguments": a_body(
        messages=[
            {
                "role": "assistant",
                "tool_calls": [
                    {
                        "id": "c1",
                        "type": "function",
                        "function": {
                            "name": "send",
                            "arguments": json.dumps({"to": SECRET}),
                        },
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "sent"},
            {"role": "user", "content": CLEAN},
        ]
    ),
    "tool result": a_body(
        messages=[
            {"role": "user", "content": CLEAN},
            {"role": "tool", "tool_call_id": "c1", "content": json.dumps({"to": SECRET})},
        ]
    ),
    "card as a number": a_body(x=4111111111111111),
}


@pytest.mark.parametrize("place", PLACES)
def test_stays_home_wherever_the_secret_stands(
    place: str, proxy: RunningProxy, cloud: StandInCloud
) -> None:
    response = proxy.post(json.dumps(PLACES[place]).encode())
    assert cloud.requests == []
    assert response.status_code in (200, 400, 503)
    assert response.headers.get("x-ringfence-route") != "cloud"


#: Route and the bodies in which a secret stands, one for each place that the route has.
OTHER_ROUTES: dict[str, tuple[str, dict[str, object]]] = {
    "completions, prompt": ("/v1/completions", {"prompt": f"Write to {SECRET}."}),
    "completions, one of many prompts": ("/v1/completions", {"prompt": [CLEAN, SECRET]}),
    "completions, suffix": ("/v1/completions", {"prompt": CLEAN, "suffix": SECRET}),
    "completions, stop": ("/v1/completions", {"prompt": CLEAN, "stop": [SECRET]}),
    "completions, user": ("/v1/completions", {"prompt": CLEAN, "user": SECRET}),
    "completions, unknown field": ("/v1/completions", {"prompt": CLEAN, "x": {"y": SECRET}}),
    "completions, token ids": ("/v1/completions", {"prompt": [40, 41, 42]}),
    "responses, input": ("/v1/responses", {"input": SECRET}),
    "responses, instructions": ("/v1/responses", {"input": CLEAN, "instructions": SECRET}),
    "responses, content part": (
        "/v1/responses",
        {"input": [{"role": "user", "content": [{"type": "input_text", "text": SECRET}]}]},
    ),
    "responses, call arguments": (
        "/v1/responses",
        {
            "input": [
                {
                    "type": "function_call",
                    "call_id": "c1",
                    "name": "send",
                    "arguments": json.dumps({"to": SECRET}),
                },
                {"type": "function_call_output", "call_id": "c1", "output": "sent"},
            ]
        },
    ),
    "responses, call output": (
        "/v1/responses",
        {"input": [{"type": "function_call_output", "call_id": "c1", "output": SECRET}]},
    ),
    "responses, reasoning": (
        "/v1/responses",
        {
            "input": [
                {"type": "reasoning", "summary": [{"type": "summary_text", "text": SECRET}]},
                {"role": "user", "content": CLEAN},
            ]
        },
    ),
    "responses, image": (
        "/v1/responses",
        {
            "input": [
                {
                    "role": "user",
                    "content": [{"type": "input_image", "image_url": "https://example.com/a.png"}],
                }
            ]
        },
    ),
    "responses, tool description": (
        "/v1/responses",
        {"input": CLEAN, "tools": [{"type": "function", "name": "f", "description": SECRET}]},
    ),
    "responses, schema": (
        "/v1/responses",
        {
            "input": CLEAN,
            "text": {"format": {"type": "json_schema", "name": "n", "schema": {"title": SECRET}}},
        },
    ),
    "responses, metadata": ("/v1/responses", {"input": CLEAN, "metadata": {"owner": SECRET}}),
    "responses, unknown field": ("/v1/responses", {"input": CLEAN, "x": {"y": SECRET}}),
    "embeddings, input": ("/v1/embeddings", {"input": SECRET}),
    "embeddings, one of many inputs": ("/v1/embeddings", {"input": [CLEAN, SECRET]}),
    "embeddings, user": ("/v1/embeddings", {"input": CLEAN, "user": SECRET}),
    "embeddings, unknown field": ("/v1/embeddings", {"input": CLEAN, "x": SECRET}),
    "embeddings, token ids": ("/v1/embeddings", {"input": [[40, 41], [42]]}),
    "pictures, clean": ("/v1/images/generations", {"prompt": CLEAN}),
    "pictures, secret": ("/v1/images/generations", {"prompt": SECRET}),
    "speech, clean": ("/v1/audio/speech", {"input": CLEAN, "voice": "alloy"}),
    "moderations, clean": ("/v1/moderations", {"input": CLEAN}),
    "moderations, secret": ("/v1/moderations", {"input": [SECRET]}),
}


@pytest.mark.parametrize("place", OTHER_ROUTES)
def test_stays_home_on_every_route(place: str, proxy: RunningProxy, cloud: StandInCloud) -> None:
    path, body = OTHER_ROUTES[place]
    for model in ("ringfence", "gpt-4o-mini"):
        longest = "max_output_tokens" if path == "/v1/responses" else "max_tokens"
        given = json.dumps({"model": model, longest: 2, **body}).encode()
        response = proxy.post_to(path, given)
        assert cloud.requests == []
        assert response.status_code in (200, 400, 503)
        assert response.headers.get("x-ringfence-route") != "cloud"
        assert response.headers["x-ringfence-decision-id"].startswith("dec_")


FORMS: dict[str, tuple[str, dict[str, str], tuple[str, str, bytes, str]]] = {
    "recording": ("audio/transcriptions", {}, ("file", "a.wav", b"RIFF", "audio/wav")),
    "as a text": ("audio/transcriptions", {}, ("file", "a.txt", CLEAN.encode(), "text/plain")),
    "prompt": ("audio/translations", {"prompt": SECRET}, ("file", "a", b"RIFF", "audio/wav")),
    "file name": ("audio/transcriptions", {}, ("file", f"{SECRET}.wav", b"RIFF", "audio/wav")),
    "picture": ("images/edits", {"prompt": SECRET}, ("image", "a.png", b"PNG", "image/png")),
    "field": ("images/variations", {SECRET: "1"}, ("image", "a.png", b"PNG", "image/png")),
}


@pytest.mark.parametrize("place", FORMS)
def test_a_form_stays_home(place: str, proxy: RunningProxy, cloud: StandInCloud) -> None:
    path, fields, (field, name, content, kind) = FORMS[place]
    for model in ("ringfence", "gpt-4o-mini"):
        with httpx2.Client(trust_env=False, timeout=120) as wire:
            response = wire.post(
                f"{proxy.url}/v1/{path}",
                data={"model": model, **fields},
                files={field: (name, content, kind)},
            )
        assert cloud.requests == []
        assert response.status_code == 400, response.text
        assert response.json()["error"]["code"] == "unsupported_by_local"
        assert response.headers["x-ringfence-decision-id"].startswith("dec_")
        last = proxy.records("decision")[-1]
        assert last["api_route"] == path.replace("/", ".")
        assert last["policy"]["action"] == "local_only"  # type: ignore[index]


def test_sends_only_inspected_or_structural_strings(
    proxy: RunningProxy, cloud: StandInCloud
) -> None:
    body = a_body(stop=["END"], x_flag={"colour": "teal"}, user="u-1", metadata={"k": "v"})
    response = proxy.post(json.dumps(body).encode())
    assert response.json()["choices"][0]["message"]["content"] == ANSWER
    (sent,) = cloud.requests
    outgoing = json.loads(sent.body)
    said = set(texts(body)) | {outgoing["model"]}
    assert [text for text in texts(outgoing) if text not in said and not is_structural(text)] == []
    assert "user" not in outgoing
    assert "metadata" not in outgoing


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"prompt": CLEAN, "stop": ["END"], "user": "u-1", "max_tokens": 2}),
        ("/v1/embeddings", {"input": [CLEAN], "user": "u-1", "x_flag": {"colour": "teal"}}),
        ("/v1/responses", {"input": CLEAN, "user": "u-1", "max_output_tokens": 2, "store": True}),
    ],
    ids=["completions", "embeddings", "responses"],
)
def test_sends_only_inspected_strings_on_every_route(
    path: str, body: dict[str, object], proxy: RunningProxy, cloud: StandInCloud
) -> None:
    body = {**body, "model": "gpt-4o-mini"}
    response = proxy.post_to(path, json.dumps(body).encode())
    assert response.headers["x-ringfence-route"] == "cloud"
    (sent,) = cloud.requests
    assert sent.path == path
    outgoing = json.loads(sent.body)
    said = set(texts(body)) | {outgoing["model"]}
    assert [text for text in texts(outgoing) if text not in said and not is_structural(text)] == []
    assert "user" not in outgoing
    assert outgoing.get("store", False) is False
    assert ("store" in outgoing) == (path == "/v1/responses")


def test_builds_fresh_headers_for_the_cloud(proxy: RunningProxy, cloud: StandInCloud) -> None:
    proxy.post(
        json.dumps(a_body()).encode(),
        **{
            "x-canary": "canary-4711",
            "openai-organization": "canary-4711",
            "traceparent": "00-canary-4711",
            "cookie": "canary-4711",
        },
    )
    (sent,) = cloud.requests
    names = {name.lower() for name, _ in sent.headers}
    assert b"canary-4711" not in cloud.received
    assert names == {
        "host", "accept", "accept-encoding", "connection", "content-length", "content-type",
        "authorization", "user-agent",
    } - ({"connection"} - names)  # fmt: skip
