"""The client of the local tier against endpoints that answer well, badly, late or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import json
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from demo.stand_in_cloud import Recorded, Reply, StandInCloud
from proxy.errors import LocalBackendError
from proxy.local.openai_http import OpenAIHTTPBackend
from proxy.types import Draft, JSONObject
from tests.factories import CLEAN, a_body, a_request

CANARY = "canary-4711"


def an_answer(logprobs: object = None, **more: object) -> dict[str, Any]:
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": "The Volga."},
        "logprobs": logprobs,
        "finish_reason": "stop",
    }
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    return {"model": "m", "choices": [choice], "usage": usage, **more}


def logprobs_of(*values: object) -> dict[str, Any]:
    return {"content": [{"token": "x", "logprob": value} for value in values]}


@dataclass
class Endpoint:
    """A local tier that answers with fixed bytes, or does what it is told."""

    status: int = 200
    payload: bytes = b""
    headers: str = ""
    act: Callable[[asyncio.StreamWriter], Awaitable[None]] | None = None
    port: int = 0
    bodies: list[dict[str, Any]] = field(default_factory=list)
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)
    tasks: list[asyncio.Task[Any]] = field(default_factory=list)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        async with server:
            try:
                yield f"http://127.0.0.1:{self.port}/v1"
            finally:
                await asyncio.wait_for(asyncio.gather(*self.tasks), 10)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.append(task)
        try:
            await self._reply(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _reply(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
        self.bodies.append(json.loads(await reader.readexactly(length)))
        with contextlib.suppress(ConnectionError):
            if self.act is not None:
                await self.act(writer)
                await reader.read()
                self.hung_up.set()
            else:
                writer.write(self._answer())
                await writer.drain()

    def _answer(self) -> bytes:
        head = f"HTTP/1.1 {self.status} X\r\ncontent-length: {len(self.payload)}\r\n{self.headers}"
        return f"{head}connection: close\r\n\r\n".encode() + self.payload


def endpoint(answer: object, status: int = 200) -> Endpoint:
    return Endpoint(status, json.dumps(answer).encode())


async def generate(
    there: Endpoint, body: JSONObject | None = None, timeout_s: float = 10.0
) -> Draft:
    async with there.running() as url:
        backend = OpenAIHTTPBackend(url, "home", timeout_s=timeout_s)
        try:
            return await backend.generate(a_request(body))
        finally:
            await backend.aclose()


async def test_asks_for_log_probabilities_and_leaves_the_clouds_bookkeeping_out() -> None:
    there = endpoint(an_answer())
    await generate(
        there,
        a_body(
            stream=True,
            stream_options={},
            store=True,
            user="u",
            metadata={"k": "v"},
            service_tier="auto",
            prompt_cache_key="p",
            safety_identifier="s",
            temperature=0.5,
        ),
    )
    assert there.bodies == [
        {
            "model": "home",
            "messages": [{"role": "user", "content": CLEAN}],
            "temperature": 0.5,
            "logprobs": True,
        }
    ]


async def test_makes_a_draft() -> None:
    draft = await generate(endpoint(an_answer(logprobs_of(-0.25, -1))))
    assert (draft.text, draft.tokens, draft.token_logprobs) == (
        "The Volga.",
        ("x", "x"),
        (-0.25, -1.0),
    )
    assert (draft.finish_reason, draft.prompt_tokens, draft.completion_tokens) == ("stop", 5, 2)


@pytest.mark.parametrize("wish", [None, False, True])
async def test_a_client_sees_log_probabilities_only_if_it_asked(wish: bool | None) -> None:
    body = a_body() if wish is None else a_body(logprobs=wish)
    draft = await generate(endpoint(an_answer(logprobs_of(-0.5))), body)
    expected = an_answer(logprobs_of(-0.5) if wish else None)
    assert draft.body == expected
    assert draft.token_logprobs == (-0.5,)


@pytest.mark.parametrize(
    "logprobs",
    [
        None,
        {},
        {"content": None},
        {"content": "x"},
        {"content": [7]},
        logprobs_of(),
        logprobs_of("-0.5"),
        logprobs_of(None),
        logprobs_of(True),
        logprobs_of(-0.5, 0.7),
        logprobs_of(0, 0),
        logprobs_of(0.0, -0.0, 0.0),
        {"content": [{"token": "x"}]},
    ],
)
async def test_log_probabilities_not_to_be_trusted_are_unknown(logprobs: object) -> None:
    assert (await generate(endpoint(an_answer(logprobs)))).token_logprobs == ()


async def test_rounding_above_zero_is_zero() -> None:
    assert (await generate(endpoint(an_answer(logprobs_of(1e-7, -1))))).token_logprobs == (0, -1)


@pytest.mark.parametrize(
    ("status", "unable"),
    [
        *((status, True) for status in (400, 404, 413, 422)),
        *((status, False) for status in (302, 401, 408, 429, 500, 502, 503)),
    ],
)
async def test_tells_a_request_it_cannot_serve_from_a_tier_that_is_down(
    status: int, unable: bool
) -> None:
    there = endpoint({"error": {"message": CANARY}}, status)
    there.headers = "location: http://127.0.0.1:9/\r\n"
    with pytest.raises(LocalBackendError) as caught:
        await generate(there)
    assert caught.value.unable is unable
    assert_says_nothing(caught.value)
    assert len(there.bodies) == 1


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"not json " + CANARY.encode(),
        b"[]",
        b"{}",
        b'{"choices":[]}',
        b'{"choices":[{"message":"canary-4711"}]}',
        b'{"choices":[],"choices":[]}',
        b'{"choices":[{"message":{},"logprobs":{"content":[{"token":"x","logprob":NaN}]}}]}',
    ],
)
async def test_garbage_is_a_fault_of_the_tier(payload: bytes) -> None:
    with pytest.raises(LocalBackendError) as caught:
        await generate(Endpoint(payload=payload))
    assert not caught.value.unable
    assert_says_nothing(caught.value)


async def test_a_compressed_answer_is_not_unpacked() -> None:
    bomb = zlib.compress(bytes(10 * 2**20))
    with pytest.raises(LocalBackendError):
        await generate(Endpoint(payload=bomb, headers="content-encoding: deflate\r\n"))


async def test_an_endless_answer_is_given_up() -> None:
    async def pour(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(64):
            writer.write(b" " * 2**20)
            await writer.drain()

    with pytest.raises(LocalBackendError, match="too large"):
        await generate(Endpoint(act=pour))


async def test_an_answer_that_only_dribbles_is_late() -> None:
    async def dribble(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(200):
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.05)

    with pytest.raises(LocalBackendError, match="in time") as caught:
        await generate(Endpoint(act=dribble), timeout_s=0.5)
    assert not caught.value.unable
    assert_says_nothing(caught.value)


async def test_nobody_there_is_a_fault_of_the_tier() -> None:
    async with Endpoint().running() as url:
        pass
    backend = OpenAIHTTPBackend(url, "home")
    with pytest.raises(LocalBackendError) as caught:
        await backend.generate(a_request(a_body(CANARY)))
    assert not caught.value.unable
    assert_says_nothing(caught.value)
    assert not await backend.probe()
    await backend.aclose()


async def test_takes_no_proxy_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    assert (await generate(endpoint(an_answer()))).text == "The Volga."


async def test_a_cookie_for_one_caller_is_not_shown_for_another() -> None:
    def sets_a_cookie(_: Recorded) -> Reply:
        headers = (("content-type", "application/json"), ("set-cookie", "who=jane; Path=/"))
        return Reply(body=json.dumps(an_answer()).encode(), headers=headers)

    with StandInCloud(sets_a_cookie) as there:
        backend = OpenAIHTTPBackend(there.base_url, "m")
        for _ in range(2):
            await backend.generate(a_request())
        await backend.aclose()
    names = [name.lower() for asked in there.requests for name, _ in asked.headers]
    assert len(there.requests) == 2
    assert "cookie" not in names


async def test_cancelling_hangs_up_at_the_other_end() -> None:
    async def wait(writer: asyncio.StreamWriter) -> None:
        await writer.drain()

    there = Endpoint(act=wait)
    async with there.running() as url:
        backend = OpenAIHTTPBackend(url, "home")
        asking = asyncio.create_task(backend.generate(a_request()))
        while not there.bodies:
            await asyncio.sleep(0.01)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await asyncio.wait_for(there.hung_up.wait(), 5)
        await backend.aclose()


def assert_says_nothing(error: LocalBackendError) -> None:
    """No word of request or answer, and no exception of the client library behind it."""
    assert CANARY not in repr(error) + str(error.body)
    assert error.__cause__ is None
    assert error.__context__ is None
