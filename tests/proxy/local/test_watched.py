"""A watched local answer flows only once it is committed to; else it is a draft like any other."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from demo.stand_in_cloud import END, Reply, StandInCloud, chunk, event, streamed
from proxy.errors import LocalBackendError
from proxy.local.live import MAX_WAITING, LocalStream, Watch
from proxy.local.openai_http import OpenAIHTTPBackend
from proxy.local.probe import Abilities, Given
from proxy.types import Draft
from tests.factories import a_body, a_request

GIVES = Abilities(Given.YES, Given.YES, Given.YES, gives_top=False)
ASKED = a_request(a_body(stream=True))


def token(text: str, logprob: object = -0.1, finish: str | None = None) -> bytes:
    entry = {"token": text, "logprob": logprob, "bytes": None, "top_logprobs": []}
    choice = {
        "index": 0,
        "delta": {"content": text},
        "logprobs": {"content": [entry]},
        "finish_reason": finish,
    }
    return event({"id": "c", "object": "chat.completion.chunk", "model": "m", "choices": [choice]})


TOKENS = [token(f"w{n} ", -0.1 - n / 100) for n in range(8)]
TEXT = "".join(f"w{n} " for n in range(8))
LAST = (chunk({}, "stop"), END)


@dataclass
class Seen:
    """What a watch was asked and told."""

    commits: bool
    doom_at: int | None = None
    begun: list[Draft] = field(default_factory=list)
    ends: list[Draft | None] = field(default_factory=list)
    num_tokens: int = 0

    def watch(self, after: int = 4) -> Watch:
        def hold(begun: Draft) -> bool:
            self.begun.append(begun)
            return self.commits

        def doomed(_: float) -> bool:
            self.num_tokens += 1
            return self.doom_at is not None and self.num_tokens >= self.doom_at

        return Watch(after, hold, self.ends.append, doomed)


@pytest.fixture
async def local(server: StandInCloud) -> AsyncIterator[OpenAIHTTPBackend]:
    made = OpenAIHTTPBackend(server.base_url, "home", timeout_s=10.0)
    made._abilities = GIVES
    yield made
    await made.aclose()


def said(chunks: list[Any]) -> str:
    return "".join(c["delta"].get("content") or "" for one in chunks for c in one["choices"])


@pytest.mark.parametrize("in_one", [False, True])
async def test_flows_from_its_first_token_once_it_is_committed_to(
    in_one: bool, local: OpenAIHTTPBackend, server: StandInCloud, gate: threading.Event
) -> None:
    begun = [b"".join(TOKENS[:4])] if in_one else TOKENS[:4]
    server.reply = lambda _: streamed(*begun, gate, *TOKENS[4:], *LAST)
    seen = Seen(commits=True)
    stream = await local.begin(ASKED, seen.watch())
    assert isinstance(stream, LocalStream)
    (told,) = seen.begun
    assert (told.tokens, told.text) == (("w0 ", "w1 ", "w2 ", "w3 "), "w0 w1 w2 w3 ")
    assert stream.beginning == told
    first = [await anext(stream.pipe) for _ in range(4)]
    gate.set()
    chunks: list[Any] = [*first, *[one async for one in stream.pipe]]
    assert said(chunks) == TEXT
    assert all(choice["logprobs"] is None for one in chunks for choice in one["choices"])
    assert json.loads(server.requests[0].body)["logprobs"] is True
    stream.passed_on(whole=True)
    (end,) = seen.ends
    assert end is not None
    assert (end.text, len(end.token_logprobs)) == (TEXT, 8)


async def test_is_the_same_draft_as_ever_where_it_is_not_committed_to(
    local: OpenAIHTTPBackend, server: StandInCloud
) -> None:
    server.reply = lambda _: streamed(*TOKENS, *LAST)
    seen = Seen(commits=False)
    draft = await local.begin(ASKED, seen.watch())
    assert isinstance(draft, Draft)
    assert (len(seen.begun), seen.num_tokens, seen.ends) == (1, 8, [])
    same = await local.generate_until(ASKED, lambda _: False)
    assert replace(draft, elapsed_ms=0.0) == replace(same, elapsed_ms=0.0)
    assert draft.text == TEXT


async def test_one_that_ends_before_is_a_draft(
    local: OpenAIHTTPBackend, server: StandInCloud
) -> None:
    server.reply = lambda _: streamed(*TOKENS[:3], *LAST)
    seen = Seen(commits=True)
    draft = await local.begin(ASKED, seen.watch())
    assert isinstance(draft, Draft)
    assert (draft.text, seen.begun) == ("w0 w1 w2 ", [])


@pytest.mark.parametrize(("doom_at", "asked"), [(2, 0), (4, 0), (6, 1)])
async def test_is_given_up_where_no_end_can_reach_the_threshold(
    doom_at: int, asked: int, local: OpenAIHTTPBackend, server: StandInCloud
) -> None:
    server.reply = lambda _: streamed(*TOKENS, *LAST)
    seen = Seen(commits=False, doom_at=doom_at)
    draft = await local.begin(ASKED, seen.watch())
    assert isinstance(draft, Draft)
    assert (draft.is_cut, draft.body, draft.text) == (True, {}, "")
    assert (len(draft.token_logprobs) >= doom_at, len(seen.begun)) == (True, asked)


@pytest.mark.parametrize("logprob", [None, 3.0, True], ids=str)
async def test_a_token_without_a_sound_log_probability_is_never_committed_to(
    logprob: object, local: OpenAIHTTPBackend, server: StandInCloud
) -> None:
    server.reply = lambda _: streamed(TOKENS[0], token("x", logprob), *TOKENS[1:], *LAST)
    seen = Seen(commits=True)
    draft = await local.begin(ASKED, seen.watch())
    assert isinstance(draft, Draft)
    assert (draft.token_logprobs, seen.begun) == ((), [])


@pytest.mark.parametrize(
    "odd",
    [
        chunk({"tool_calls": [{"index": 0}]}),
        chunk({"content": "a"}, index=1),
        b'data: {"error": {"message": "x"}}\n\n',
        b"data: x\n\n",
    ],
    ids=["tools", "choices", "error", "garbage"],
)
async def test_what_cannot_be_put_together_is_asked_for_whole(
    odd: bytes, local: OpenAIHTTPBackend, server: StandInCloud
) -> None:
    server.reply = lambda asked: streamed(TOKENS[0], odd) if b'"stream"' in asked.body else Reply()
    draft = await local.begin(ASKED, Seen(commits=True).watch())
    assert isinstance(draft, Draft)
    assert len(server.requests) == 2


async def test_what_can_no_longer_be_put_together_flows_on_and_has_no_end_to_score(
    local: OpenAIHTTPBackend, server: StandInCloud
) -> None:
    server.reply = lambda _: streamed(*TOKENS[:4], chunk({"tool_calls": [{"index": 0}]}), *LAST)
    seen = Seen(commits=True)
    stream = await local.begin(ASKED, seen.watch())
    assert isinstance(stream, LocalStream)
    assert len([one async for one in stream.pipe]) == 6
    stream.passed_on(whole=True)
    assert seen.ends == [None]


async def test_what_breaks_off_before_it_is_committed_to_is_a_fault(
    local: OpenAIHTTPBackend, server: StandInCloud
) -> None:
    server.reply = lambda _: streamed(*TOKENS[:3], cut=True)
    with pytest.raises(LocalBackendError):
        await local.begin(ASKED, Seen(commits=True).watch())


async def test_many_chunks_before_the_tokens_do_not_stand_in_the_way(
    local: OpenAIHTTPBackend, server: StandInCloud
) -> None:
    silent = [chunk({"role": "assistant"})] * (2 * MAX_WAITING)
    server.reply = lambda _: streamed(*silent, *TOKENS, *LAST)
    stream = await local.begin(ASKED, Seen(commits=True).watch())
    assert isinstance(stream, LocalStream)
    assert said([one async for one in stream.pipe]) == TEXT


@pytest.mark.parametrize(
    "change",
    [
        lambda local: setattr(local, "_abilities", replace(GIVES, with_stream=Given.MISSING)),
        lambda local: setattr(local, "_abilities", replace(GIVES, plain=Given.CONSTANT)),
    ],
    ids=["no stream", "constant"],
)
async def test_an_endpoint_that_is_not_known_to_tell_is_asked_for_whole(
    change: Callable[[OpenAIHTTPBackend], None], local: OpenAIHTTPBackend, server: StandInCloud
) -> None:
    change(local)
    seen = Seen(commits=True)
    assert isinstance(await local.begin(ASKED, seen.watch()), Draft)
    assert b'"stream"' not in server.requests[0].body
    assert seen.begun == []
