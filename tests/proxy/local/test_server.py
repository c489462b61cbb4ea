"""The embedded server over HTTP, with the real model in a process of its own."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import openai
import pytest

from proxy.local.server import MAX_BODY_BYTES
from tests.factories import CLEAN, a_body

pytestmark = pytest.mark.slow


def post(local_url: str, body: bytes | dict[str, Any]) -> httpx2.Response:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    with httpx2.Client(trust_env=False, timeout=60) as wire:
        return wire.post(f"{local_url}/chat/completions", content=raw)


def client(local_url: str) -> openai.OpenAI:
    http = httpx2.Client(trust_env=False, timeout=60)
    return openai.OpenAI(base_url=local_url, api_key="none", http_client=http, max_retries=0)


def test_an_openai_client_gets_an_answer_with_log_probabilities(local_url: str) -> None:
    with client(local_url) as ours:
        answer = ours.chat.completions.create(
            model="any",
            messages=[{"role": "user", "content": CLEAN}],
            max_tokens=6,
            logprobs=True,
            top_logprobs=2,
        )
    choice = answer.choices[0]
    assert choice.logprobs is not None
    tokens = choice.logprobs.content or []
    assert b"".join(bytes(token.bytes or []) for token in tokens).decode() == choice.message.content
    assert all(token.logprob <= 0 and len(token.top_logprobs) == 2 for token in tokens)
    assert answer.usage is not None
    assert answer.usage.completion_tokens == len(tokens) == 6
    assert choice.finish_reason == "length"


def test_a_stream_tells_the_same_as_the_whole(local_url: str) -> None:
    how: dict[str, Any] = {
        "model": "any",
        "messages": [{"role": "user", "content": CLEAN}],
        "max_tokens": 8,
        "logprobs": True,
    }
    with client(local_url) as ours:
        whole = ours.chat.completions.create(**how)
        stream = ours.chat.completions.create(
            **how, stream=True, stream_options={"include_usage": True}
        )
        chunks = list(stream)
    text, logprobs = "", []
    for chunk in chunks:
        for choice in chunk.choices:
            text += choice.delta.content or ""
            told = choice.logprobs.content if choice.logprobs else None
            logprobs += [token.logprob for token in told or []]
    assert text == whole.choices[0].message.content
    assert whole.choices[0].logprobs is not None
    expected = [token.logprob for token in whole.choices[0].logprobs.content or []]
    assert logprobs == pytest.approx(expected, abs=0.05)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "length"
    assert chunks[-1].usage == whole.usage


def test_a_stream_ends_in_done(local_url: str) -> None:
    text = post(local_url, {**a_body(), "stream": True, "max_tokens": 2}).text
    assert text.endswith("data: [DONE]\n\n")
    assert '"logprobs": null' in text


def test_many_at_once_are_all_answered(local_url: str) -> None:
    body = {**a_body(), "max_tokens": 4}
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: post(local_url, body), range(20)))
    assert {answer.status_code for answer in answers} == {200}


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        ({**a_body(), "n": 2, "stream": True}, 400, "unsupported_parameter", "n"),
        ({**a_body(), "tools": [{"type": "function"}]}, 400, "unsupported_parameter", "tools"),
        ({**a_body(), "max_tokens": 10**6}, 400, "context_length_exceeded", None),
        ({**a_body(), "temperature": 9}, 400, "invalid_value", "temperature"),
        ({"messages": []}, 400, "invalid_value", "messages"),
        (b'{"messages":1,"messages":2}', 400, "duplicate_key", None),
        (b"not json", 400, "invalid_json", None),
        (b" " * (MAX_BODY_BYTES + 1), 413, "request_too_large", None),
    ],
    ids=["n", "tools", "context", "temperature", "messages", "duplicate", "junk", "size"],
)
def test_refuses_by_name(
    body: bytes | dict[str, Any], status: int, code: str, param: str | None, local_url: str
) -> None:
    response = post(local_url, body)
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"]) == (status, code, param)


def test_says_that_it_is_there(local_url: str) -> None:
    with httpx2.Client(trust_env=False) as wire:
        assert wire.get(local_url.replace("/v1", "/healthz")).json() == {"status": "ok"}
        models = wire.get(f"{local_url}/models").json()["data"]
    assert [model["id"] for model in models] == ["smollm2-135m-instruct", "all-minilm-l6-v2"]


def test_a_client_that_leaves_costs_the_others_nothing(local_url: str) -> None:
    """Sixteen rows of 4,000 tokens would fill the batch for minutes, were they not given up."""
    body = {**a_body("Tell a long story."), "max_tokens": 4000}
    with httpx2.Client(trust_env=False, timeout=60) as wire:
        for _ in range(8):
            path = f"{local_url}/chat/completions"
            with wire.stream("POST", path, json={**body, "stream": True}) as response:
                assert next(response.iter_raw()).startswith(b"data: ")
            with pytest.raises(httpx2.TimeoutException):
                wire.post(path, json=body, timeout=0.3)
    assert post(local_url, {**a_body(), "max_tokens": 2}).status_code == 200


def test_several_answers_come_in_one(local_url: str) -> None:
    with client(local_url) as ours:
        chat = ours.chat.completions.create(
            model="any", messages=[{"role": "user", "content": CLEAN}], max_tokens=2, n=2
        )
        text = ours.completions.create(
            model="any", prompt=["The river", "One, two,"], max_tokens=2, n=2, logprobs=1
        )
    assert [choice.index for choice in chat.choices] == [0, 1]
    assert chat.usage is not None
    assert chat.usage.completion_tokens == 4
    assert [choice.index for choice in text.choices] == [0, 1, 2, 3]
    assert all(choice.text for choice in text.choices)
    scores = text.choices[0].logprobs
    assert scores is not None
    assert scores.text_offset == [0, len((scores.tokens or [""])[0])]


def test_near_texts_have_near_vectors(local_url: str) -> None:
    with client(local_url) as ours:
        texts = ["A cat sat on the mat.", "A kitten rests on a rug.", "Interest rates rose again."]
        told = ours.embeddings.create(model="any", input=texts)
        plain = ours.embeddings.create(model="any", input=texts[0], encoding_format="float")
    cat, kitten, rates = (one.embedding for one in told.data)
    assert len(cat) == 384
    assert cosine(cat, kitten) > cosine(cat, rates) + 0.3
    assert plain.data[0].embedding == pytest.approx(cat, abs=1e-5)
    assert sum(value * value for value in cat) == pytest.approx(1, abs=1e-4)
    assert told.usage.prompt_tokens > 12


def test_every_word_of_a_long_text_counts(local_url: str) -> None:
    with client(local_url) as ours:
        start = "The river is long. " * 100
        one, other = (
            ours.embeddings.create(model="any", input=start + end).data[0].embedding
            for end in ("Cats purr.", "Interest rates rose. " * 20)
        )
    assert cosine(one, other) < 0.999


@pytest.mark.parametrize(
    ("more", "code", "param"),
    [
        ({"input": [1, 2, 3]}, "unsupported_parameter", "input"),
        ({"input": "a", "dimensions": 64}, "unsupported_parameter", "dimensions"),
        ({"input": []}, "invalid_value", "input"),
        ({"input": "word " * 9000}, "context_length_exceeded", None),
    ],
    ids=["token ids", "dimensions", "nothing", "too long"],
)
def test_what_the_encoder_cannot_do_is_refused_by_name(
    more: dict[str, Any], code: str, param: str | None, local_url: str
) -> None:
    with httpx2.Client(trust_env=False, timeout=60) as wire:
        error = wire.post(f"{local_url}/embeddings", json=more).json()["error"]
    assert (error["code"], error["param"]) == (code, param)


def cosine(one: list[float], other: list[float]) -> float:
    """For vectors of length 1."""
    return sum(a * b for a, b in zip(one, other, strict=True))
