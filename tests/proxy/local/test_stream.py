"""An answer read while it is written is the answer that would have come whole."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.local.openai_http import OpenAIHTTPBackend
from proxy.local.probe import Given
from proxy.local.stream import NotReadable, Reader
from proxy.types import JSONObject
from tests.factories import a_body, a_request

LOGPROBS: list[JSONObject] = [
    {"token": "Die ", "logprob": -0.5, "top_logprobs": []},
    {"token": "Wölfe", "logprob": -1.5, "top_logprobs": []},
]


def event(delta: JSONObject, finish: str | None = None, **more: object) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish, **more}
    frame = {"id": "c", "object": "chat.completion.chunk", "created": 7, "model": "m"}
    return b"data: " + json.dumps({**frame, "choices": [choice]}).encode() + b"\n\n"


STREAM = b"".join(
    [
        b": a comment\n\n",
        event({"role": "assistant", "content": "", "refusal": None}),
        event({"content": "Die "}, logprobs={"content": [LOGPROBS[0]]}),
        event({"content": "Wölfe"}, logprobs={"content": [LOGPROBS[1]]}),
        event({}, "stop"),
        b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}\r\n\r\n',
        b"data: [DONE]\n\n",
    ]
)
WHOLE: JSONObject = {
    "id": "c",
    "created": 7,
    "model": "m",
    "object": "chat.completion",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Die Wölfe", "refusal": None},
            "logprobs": {"content": LOGPROBS, "refusal": None},
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2},
}


def test_a_beginning_that_is_told_without_its_tokens_is_not_scored() -> None:
    reader = Reader()
    list(reader.feed(STREAM))
    assert reader.so_far(1).token_logprobs == (-0.5,)
    assert reader.so_far().token_logprobs == (-0.5, -1.5)
    list(reader.feed(event({"content": " heulen im tiefen Wald."}) + b"\n"))
    assert reader.so_far(1).token_logprobs == reader.so_far().token_logprobs == ()


@given(st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_it_is_the_same_however_the_bytes_are_cut(places: list[int]) -> None:
    ends = [0, *sorted(places), len(STREAM)]
    reader, told = Reader(), []
    for start, end in pairwise(ends):
        told += list(reader.feed(STREAM[start:end]))
    assert (reader.whole(), told) == (WHOLE, [-0.5, -1.5])


@pytest.mark.parametrize(
    "data",
    [
        event({"tool_calls": [{"index": 0}]}),
        event({"reasoning_content": "Hm."}),
        event({}).replace(b'"index": 0', b'"index": 1'),
        b'data: {"choices":[{"index":0,"delta":{}},{"index":0,"delta":{}}]}\n\n',
        b'data: {"error":{"message":"canary"}}\n\n',
        b"data: canary\n\n",
        b'data: {"choices":[7]}\n\n',
    ],
    ids=range(7),
)
def test_what_cannot_be_put_together_is_asked_for_whole(data: bytes) -> None:
    with pytest.raises(NotReadable) as caught:
        list(Reader().feed(data))
    assert "canary" not in repr(caught.value)


def test_a_stream_that_breaks_off_is_no_answer() -> None:
    reader = Reader()
    list(reader.feed(STREAM[:400]))
    with pytest.raises(NotReadable):
        reader.whole()


def test_a_token_without_a_sound_log_probability_says_so() -> None:
    for entry in ({"token": "a"}, {"token": "a", "logprob": 3.0}, {"token": "a", "logprob": True}):
        assert list(Reader().feed(event({"content": "a"}, logprobs={"content": [entry]}))) == [None]


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_the_embedded_server_can_be_watched_and_given_up(local_url: str) -> None:
    backend = OpenAIHTTPBackend(local_url, "smollm2-135m-instruct")
    asked = a_request(a_body("Name a river of Europe.", max_tokens=12))
    before = await backend.generate_until(asked, lambda _: True)
    assert not before.is_cut  # nobody knows yet what this server gives
    abilities = await backend.learn()
    assert abilities is not None
    assert abilities.with_stream is Given.YES
    whole = await backend.generate(asked)
    watched = await backend.generate_until(asked, lambda _: False)
    assert (watched.text, watched.tokens) == (whole.text, whole.tokens)
    assert watched.token_logprobs == pytest.approx(whole.token_logprobs, abs=1e-4)
    assert (watched.finish_reason, watched.is_cut) == (whole.finish_reason, False)
    assert (watched.prompt_tokens, watched.completion_tokens) == (
        whole.prompt_tokens,
        whole.completion_tokens,
    )
    assert watched.body["choices"] == whole.body["choices"]
    begun = await backend.generate_until(asked, lambda _: True)
    assert (begun.is_cut, begun.body, begun.text) == (True, {}, "")
    assert begun.token_logprobs == pytest.approx(
        whole.token_logprobs[: len(begun.tokens)], abs=1e-4
    )
    assert 0 < len(begun.tokens) < len(whole.tokens)
    tools = a_request(a_body("Name a river.", max_tokens=2, n=2))
    assert not (await backend.generate_until(tools, lambda _: True)).is_cut
    await backend.aclose()
