"""A local answer that is handed on while it comes: in order, strictly read, and never run ahead."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from demo.stand_in_cloud import ANSWER, END, Reply, StandInCloud, chunk, streamed, text_chunk
from proxy.errors import LocalBackendError
from proxy.local.live import MAX_WAITING, LocalStream
from proxy.local.openai_http import OpenAIHTTPBackend
from proxy.types import Draft, JSONObject
from tests.factories import CLEAN, a_body, a_request

CANARY = b"canary-4711"
OPENING = chunk({"role": "assistant", "content": ""})
WORDS = (chunk({"content": "The"}), chunk({"content": " Volga."}))
LAST_OF_MANY = (chunk({"content": "word " * 2**18}), chunk({}, "stop"), END)
WHOLE = (OPENING, *WORDS, chunk({}, "stop"), END)


@asynccontextmanager
async def backend(server: StandInCloud, timeout_s: float = 30.0) -> AsyncIterator[Any]:
    made = OpenAIHTTPBackend(server.base_url, "home", timeout_s=timeout_s)
    try:
        yield made
    finally:
        await made.aclose()


@asynccontextmanager
async def begun(
    server: StandInCloud, body: JSONObject | None = None, timeout_s: float = 30.0
) -> AsyncIterator[LocalStream]:
    async with backend(server, timeout_s) as local:
        stream = await local.begin(a_request(body or a_body(stream=True)))
        assert isinstance(stream, LocalStream)
        yield stream
        stream.close()


async def whole(server: StandInCloud, body: JSONObject | None = None) -> Draft:
    async with backend(server) as local:
        draft = await local.begin(a_request(body or a_body(stream=True)))
        assert isinstance(draft, Draft)
        return draft


def said(chunks: list[Any]) -> str:
    return "".join(
        choice.get("text") or choice.get("delta", {}).get("content") or ""
        for one in chunks
        for choice in one["choices"]
    )


async def test_it_is_here_once_it_says_something_and_before_it_says_more(
    server: StandInCloud, gate: threading.Event
) -> None:
    server.reply = lambda _: streamed(*WHOLE[:2], gate, *WHOLE[2:])
    async with begun(server) as stream:
        assert said(await stream.pipe.rest()) == "The"
        gate.set()
        rest = [one async for one in stream.pipe]
        assert said(rest) == " Volga."
        assert (stream.error_type, stream.progress.has_ended) == (None, True)
        usage: Any = stream.progress.usage
        assert usage["completion_tokens"] == 9


async def test_what_is_asked_for_is_what_the_client_wants_and_the_usage(
    server: StandInCloud,
) -> None:
    server.reply = lambda _: streamed(*WHOLE)
    async with begun(server, a_body(stream=True, user="u", max_tokens=4)):
        pass
    assert server.requests[0].path == "/v1/chat/completions"
    assert json.loads(server.requests[0].body) == {
        "model": "home",
        "messages": [{"role": "user", "content": CLEAN}],
        "max_tokens": 4,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


SCORES = {"content": [{"token": "a", "logprob": -1.0, "top_logprobs": [{"token": "b"}] * 3}]}


@pytest.mark.parametrize("asks", [True, False])
async def test_usage_and_log_probabilities_come_to_those_who_asked(
    asks: bool, server: StandInCloud
) -> None:
    scored = chunk({"content": "a"}).replace(
        b'"logprobs": null', b'"logprobs": ' + json.dumps(SCORES).encode()
    )
    server.reply = lambda _: streamed(scored, chunk({}, "stop"), END)
    wishes: dict[str, Any] = {
        "logprobs": True,
        "top_logprobs": 2,
        "stream_options": {"include_usage": True},
    }
    async with begun(server, a_body(stream=True, **(wishes if asks else {}))) as stream:
        chunks: list[Any] = [one async for one in stream.pipe]
    told = chunks[0]["choices"][0]["logprobs"]
    assert (told and len(told["content"][0]["top_logprobs"])) == (2 if asks else None)
    assert ["usage" in one for one in chunks] == [asks] * len(chunks)
    assert [bool(one["choices"]) for one in chunks] == [True, True, *([False] if asks else [])]


async def test_the_older_form_tool_calls_and_several_choices_are_handed_on(
    server: StandInCloud,
) -> None:
    server.reply = lambda _: streamed(text_chunk("The"), text_chunk(" Volga.", "stop"), END)
    older = replace(
        a_request({"model": "ringfence", "prompt": CLEAN, "stream": True}), route="completions"
    )
    async with backend(server) as local:
        stream = await local.begin(older)
        assert said([one async for one in stream.pipe]) == "The Volga."
    assert server.requests[0].path == "/v1/completions"
    function = {"name": "send", "arguments": "{}"}
    calls = chunk({"tool_calls": [{"index": 0, "id": "c1", "function": function}]}, index=1)
    pieces = (WORDS[0], calls, chunk({}, "stop"), chunk({}, "tool_calls", 1), END)
    server.reply = lambda _: streamed(*pieces)
    async with begun(server, a_body(stream=True, n=2)) as stream:
        chunks: list[Any] = [one async for one in stream.pipe]
    assert chunks[1]["choices"][0]["delta"]["tool_calls"][0]["function"] == function


BREAKS: dict[str, tuple[bytes, bool, str]] = {
    "the connection": (b": hello\n\n", True, "connection"),
    "an end too soon": (b": hello\n\n", False, "connection"),
    "no json": (b"data: {%b\n\n" % CANARY, False, "garbage"),
    "no chunk": (b'data: {"choices": [{"index": 0}], "a": "%b"}\n\n' % CANARY, False, "garbage"),
    "an error": (b'data: {"error": {"message": "%b"}}\n\n' % CANARY, False, "upstream_error"),
    "a long event": (b"data: " + b"a" * 2**21, False, "too_large"),
    "many bytes": ((b": " + b"a" * 1021 + b"\n") * 2**15 + b": more\n", False, "too_large"),
}


@pytest.mark.parametrize("name", BREAKS)
async def test_what_breaks_off_ends_in_a_fault_after_all_that_came(
    name: str, server: StandInCloud
) -> None:
    piece, cut, error_type = BREAKS[name]
    server.reply = lambda _: streamed(OPENING, WORDS[0], piece, cut=cut)
    async with begun(server) as stream:
        assert said(await stream.pipe.rest()) == "The"
        with pytest.raises(LocalBackendError) as caught:
            await stream.pipe.rest()
        assert stream.error_type == error_type
    assert CANARY.decode() not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize("name", ["no json", "no chunk", "an error"])
async def test_what_cannot_be_read_before_its_first_word_is_asked_for_whole(
    name: str, server: StandInCloud
) -> None:
    piece = BREAKS[name][0]
    server.reply = lambda asked: streamed(OPENING, piece) if b'"stream"' in asked.body else Reply()
    assert (await whole(server)).text == ANSWER
    assert len(server.requests) == 2


@pytest.mark.parametrize("name", ["the connection", "an end too soon", "a long event"])
async def test_what_breaks_off_before_its_first_word_is_a_fault_like_any_other(
    name: str, server: StandInCloud
) -> None:
    piece, cut, _ = BREAKS[name]
    server.reply = lambda _: streamed(OPENING, piece, cut=cut)
    with pytest.raises(LocalBackendError):
        await whole(server)
    assert len(server.requests) == 1


async def test_a_stream_of_nothing_but_its_end_is_asked_for_whole(server: StandInCloud) -> None:
    server.reply = lambda asked: (
        streamed(b"data: [DONE]\n\n") if b'"stream"' in asked.body else Reply()
    )
    assert (await whole(server)).text == ANSWER


async def test_an_answer_in_one_piece_is_taken_and_not_asked_for_again(
    server: StandInCloud,
) -> None:
    assert (await whole(server)).text == ANSWER
    assert len(server.requests) == 1


async def test_an_endpoint_that_takes_no_stream_is_asked_for_the_whole(
    server: StandInCloud,
) -> None:
    server.reply = lambda asked: Reply(400 if b'"stream"' in asked.body else 200)
    assert (await whole(server)).text == ANSWER
    server.reply = lambda _: Reply(503)
    with pytest.raises(LocalBackendError):
        await whole(server)


async def test_an_endpoint_that_says_nothing_in_time_is_late(
    server: StandInCloud, gate: threading.Event
) -> None:
    server.reply = lambda _: streamed(OPENING, gate, *WORDS)
    async with backend(server, timeout_s=0.5) as local:
        with pytest.raises(LocalBackendError, match="in time"):
            await local.begin(a_request(a_body(stream=True)))


async def test_an_endpoint_that_falls_silent_is_late(
    server: StandInCloud, gate: threading.Event
) -> None:
    server.reply = lambda _: streamed(WORDS[0], gate, WORDS[1])
    async with begun(server, timeout_s=3.0) as stream:
        assert said(await stream.pipe.rest()) == "The"
        with pytest.raises(LocalBackendError, match="in time"):
            await stream.pipe.rest()
        assert stream.error_type == "timeout"


async def test_a_reader_that_stops_holds_the_endpoint_back(server: StandInCloud) -> None:
    server.reply = lambda _: streamed(*WORDS[:1] * 500, chunk({}, "stop"), END)
    async with begun(server) as stream:
        async with asyncio.timeout(30):
            while stream.pipe.num_waiting < MAX_WAITING:
                await asyncio.sleep(0.001)
        for _ in range(100):  # time enough for more, were there a way
            await asyncio.sleep(0.001)
        assert stream.pipe.num_waiting == MAX_WAITING
        assert not stream.progress.has_ended


async def test_readers_that_stop_keep_nobody_else_from_the_endpoint(
    server: StandInCloud,
) -> None:
    server.reply = lambda _: streamed(*WORDS * 2 * MAX_WAITING, *LAST_OF_MANY)
    async with backend(server, timeout_s=5.0) as local:
        asked = a_request(a_body(stream=True))
        unread = [await local.begin(asked) for _ in range(120)]
        server.reply = lambda _: Reply()
        assert (await local.generate(asked)).text == ANSWER
        assert await local.probe()
        for stream in unread:
            stream.close()


async def test_closing_it_hangs_up_and_no_reader_takes_it_for_whole(
    server: StandInCloud, gate: threading.Event
) -> None:
    server.reply = lambda _: streamed(*WHOLE[:2], gate, *WHOLE[2:])
    async with begun(server) as stream:
        await stream.pipe.rest()
        stream.close()
        stream.close(late=True)
        with pytest.raises(LocalBackendError):
            await stream.pipe.rest()
        assert stream.error_type == "client_abort"


async def test_a_client_that_leaves_before_the_first_word_leaves_nothing_behind(
    server: StandInCloud, gate: threading.Event
) -> None:
    server.reply = lambda _: streamed(OPENING, gate, *WORDS)
    async with backend(server) as local:
        asking = asyncio.create_task(local.begin(a_request(a_body(stream=True))))
        while not server.requests:
            await asyncio.sleep(0.001)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        while [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]:
            await asyncio.sleep(0.001)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_the_embedded_server_streams_and_stops_when_nobody_waits(local_url: str) -> None:
    """Sixteen rows of 4,000 tokens would fill the batch for minutes, were they not given up."""
    local = OpenAIHTTPBackend(local_url, "smollm2-135m-instruct")
    long = a_request(a_body("Tell a long story.", stream=True, max_tokens=4000))
    for _ in range(16):
        stream = await local.begin(long)
        assert isinstance(stream, LocalStream)
        assert said(await stream.pipe.rest())
        stream.close()
    short = a_body("Name a river of Europe.", stream=True, max_tokens=8)
    stream = await local.begin(a_request(short))
    assert isinstance(stream, LocalStream)
    told = said([one async for one in stream.pipe])
    assert told == (await local.generate(a_request(short))).text
    await local.aclose()
