"""A pinned answer reaches a streaming client while the local model still writes it.

That is shown by a gate: the stand-in for the local model writes its last piece only when the client
has the first one. Whatever the client holds then is known again, and nothing ever leaves.
"""

from __future__ import annotations

import json
import re
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import openai
import pytest

from demo.stand_in_cloud import (
    ANSWER,
    END,
    USAGE,
    Recorded,
    Reply,
    StandInCloud,
    chunk,
    streamed,
    text_chunk,
)
from tests.harness import RunningProxy, running_proxy
from tests.promises.test_streams_flow import listening, said

pytestmark = pytest.mark.slow

QUESTION = "My name is Jane Doe, jane.doe@example-mail.com. What do the papers say?"
BEGUN = "The second tunnel under the north wing closes before summer, since the"
REST = " roof above the old boiler has begun to sink, as two engineers measured."
WORDS = (
    chunk({"role": "assistant", "content": ""}),
    *(chunk({"content": f"{word} "}) for word in BEGUN.split()),
)
LATER = (chunk({"content": REST.strip()}), chunk({}, "stop"), END)


@pytest.fixture(scope="module")
def _servers(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[RunningProxy, StandInCloud, StandInCloud]]:
    with StandInCloud() as cloud, StandInCloud() as local:
        env = {
            "RINGFENCE_LOCAL_BASE_URL": local.base_url,
            "RINGFENCE_LOCAL_MODEL": "scripted",
            "RINGFENCE_LOCAL_TIMEOUT_S": "3",
            "RINGFENCE_EXPOSE_METRICS": "true",
            "RINGFENCE_EXPOSE_ROUTE_HEADERS": "true",
            "RINGFENCE_CLOUD_FIRST_APPS": "default",
        }
        with running_proxy(tmp_path_factory.mktemp("proxy"), cloud.base_url, env) as proxy:
            yield proxy, cloud, local


@pytest.fixture
def proxy(_servers: tuple[RunningProxy, StandInCloud, StandInCloud]) -> RunningProxy:
    return _servers[0]


@pytest.fixture
def cloud(_servers: tuple[RunningProxy, StandInCloud, StandInCloud]) -> StandInCloud:
    """What must stay empty of anything pinned."""
    _servers[1].requests.clear()
    return _servers[1]


@pytest.fixture
def local(_servers: tuple[RunningProxy, StandInCloud, StandInCloud]) -> StandInCloud:
    """The local model's part."""
    local = _servers[2]
    local.requests.clear()
    local.reply = lambda _: Reply()
    return local


def asked(question: str = QUESTION, **more: Any) -> dict[str, Any]:
    message = {"role": "user", "content": question}
    return {"model": "ringfence", "messages": [message], "stream": True, **more}


def decision(proxy: RunningProxy) -> dict[str, Any]:
    return dict(proxy.records("decision")[-1])


def answered(proxy: RunningProxy) -> dict[str, Any]:
    """The log line of the last decision, once it is there."""
    wanted = decision(proxy)["decision_id"]
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        lines = [json.loads(line) for line in proxy.log_path.read_bytes().splitlines()]
        for line in lines:
            if line.get("event") == "answered" and line.get("decision_id") == wanted:
                return dict(line)
        time.sleep(0.05)
    raise AssertionError("no answer was told")


def leaves(proxy: RunningProxy, cloud: StandInCloud, text: str) -> bool:
    """Whether a question that carries ``text`` reaches the cloud, where each would that may."""
    cloud.requests.clear()
    body = {"model": "ringfence", "messages": [{"role": "assistant", "content": text}]}
    body["messages"].append({"role": "user", "content": "Go on."})  # type: ignore[attr-defined]
    assert proxy.post(json.dumps(body).encode()).status_code == 200
    return bool(cloud.requests)


def test_the_first_piece_is_there_recorded_and_pinned_before_the_last_was_written(
    proxy: RunningProxy, cloud: StandInCloud, local: StandInCloud, gate: threading.Event
) -> None:
    assert leaves(proxy, cloud, BEGUN)
    cloud.requests.clear()
    local.reply = lambda _: streamed(*WORDS, gate, *LATER)
    with listening(proxy, asked()) as events:
        held: list[Any] = []
        while said(held).strip() != BEGUN:
            held.append(next(events))
        routing = decision(proxy)["routing"]
        assert (routing["route"], routing["reason"], routing["score"]) == ("local", "pinned", None)
        local.reply = lambda _: Reply()
        assert not leaves(proxy, cloud, BEGUN)
        assert not leaves(proxy, cloud, "They say: " + " ".join(BEGUN.split()[:10]))
        assert str(decision(proxy)["routing"]["derived_from"]).startswith("dec_")
        gate.set()
        rest = list(events)
    assert (said(rest).strip(), rest[-1]) == (REST.strip(), "[DONE]")
    assert not leaves(proxy, cloud, f"And then {REST}")
    assert b"tunnel" not in proxy.everything_written()


@pytest.mark.parametrize("num_words", range(3, len(BEGUN.split()) + 1))
def test_what_a_client_holds_that_left_at_any_word_is_known_again(
    num_words: int,
    proxy: RunningProxy,
    cloud: StandInCloud,
    local: StandInCloud,
    gate: threading.Event,
) -> None:
    words = [f"{word}{num_words}" for word in BEGUN.split()[:num_words]]  # no other test said them
    held = " ".join(words)
    assert leaves(proxy, cloud, held)
    local.reply = lambda _: streamed(*(chunk({"content": f"{word} "}) for word in words), gate, END)
    with listening(proxy, asked()) as events:
        got: list[Any] = []
        while said(got).strip() != held:
            got.append(next(events))
    local.reply = lambda _: Reply()
    assert not leaves(proxy, cloud, held)


def with_page(page: str, **more: Any) -> dict[str, Any]:
    """A pinned conversation in which a tool said what is on ``page``."""
    call = {"id": "c1", "type": "function", "function": {"name": "read", "arguments": "{}"}}
    body = asked(**more)
    body["messages"] += [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": page},
    ]
    return body


@pytest.mark.parametrize("streams", [True, False])
def test_what_tools_said_is_known_again_though_the_client_left_before_a_word(
    streams: bool,
    proxy: RunningProxy,
    cloud: StandInCloud,
    local: StandInCloud,
    gate: threading.Event,
) -> None:
    page = (
        f"The elder tenant sold {'two' if streams else 'six'} ladders, since rust had eaten them."
    )
    assert leaves(proxy, cloud, page)
    there = threading.Event()

    def waits(_: Recorded) -> Reply:
        there.set()
        gate.wait(60)
        return Reply()

    local.reply = waits
    body = json.dumps(with_page(page, stream=streams)).encode()
    before = len(proxy.records("decision"))
    address = ("127.0.0.1", int(proxy.url.rpartition(":")[2]))
    with socket.create_connection(address) as wire:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{address[1]}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        wire.sendall(head.encode() + body)
        assert there.wait(60)
    told: Any = proxy.records_once("decision", before + 1)[-1]
    assert told["routing"]["reason"] == "client_gone"
    gate.set()
    local.reply = lambda _: Reply()
    assert not leaves(proxy, cloud, page)


def test_what_tools_said_is_known_again_though_the_client_left_before_the_end(
    proxy: RunningProxy, cloud: StandInCloud, local: StandInCloud, gate: threading.Event
) -> None:
    page = "The younger tenant kept both ladders, since moss had covered the northern gutter."
    body = with_page(page)
    assert leaves(proxy, cloud, page)
    local.reply = lambda _: streamed(*WORDS[:3], gate, END)
    with listening(proxy, body) as events:
        next(events)
        next(events)
    local.reply = lambda _: Reply()
    assert not leaves(proxy, cloud, page)


@pytest.mark.parametrize("form", ["streamed", "whole", "whole to a stream"])
def test_what_a_model_thinks_aloud_is_known_again_like_its_answer(
    form: str, proxy: RunningProxy, cloud: StandInCloud, local: StandInCloud
) -> None:
    thought = f"Her lender has asked the {form} tribunal to auction both barns in Vermont."
    message = {"role": "assistant", "content": "Done.", "reasoning_content": thought}
    whole = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    pieces = (chunk({"reasoning_content": thought}), chunk({"content": "Done."}, "stop"), END)
    assert leaves(proxy, cloud, thought)
    if form == "streamed":
        local.reply = lambda _: streamed(*pieces)
    else:
        local.reply = lambda _: Reply(body=json.dumps(whole).encode())
    told = proxy.post(json.dumps(asked(stream=form != "whole")).encode())
    assert told.status_code == 200
    assert b"both barns" in told.content
    local.reply = lambda _: Reply()
    assert not leaves(proxy, cloud, thought)
    assert not leaves(proxy, cloud, f"It thought: {thought} What now?")


def test_who_asks_for_the_local_model_gets_it_while_it_is_written(
    proxy: RunningProxy, cloud: StandInCloud, local: StandInCloud, gate: threading.Event
) -> None:
    open_words = "Rivers of eastern Europe flow slowly through wide and shallow valleys."
    pieces = (chunk({"content": f"{open_words} "}), gate, chunk({"content": "Yes"}, "stop"), END)
    local.reply = lambda _: streamed(*pieces)
    with listening(proxy, asked("Name a river.", model="scripted")) as events:
        assert said([next(events)]).strip() == open_words
        assert decision(proxy)["routing"]["reason"] == "model_is_local"
        gate.set()
        assert list(events)[-1] == "[DONE]"
    assert answered(proxy)["error_type"] is None
    local.reply = lambda _: Reply()
    assert leaves(proxy, cloud, open_words)


def test_a_completion_of_the_older_form_flows_too(
    proxy: RunningProxy, local: StandInCloud, gate: threading.Event
) -> None:
    local.reply = lambda _: streamed(text_chunk("The"), gate, text_chunk(" Volga.", "stop"), END)
    body = {"model": "ringfence", "prompt": QUESTION, "stream": True}
    with listening(proxy, body, "completions") as events:
        assert said([next(events)]) == "The"
        gate.set()
        rest = list(events)
    assert (said(rest), rest[-1]) == (" Volga.", "[DONE]")
    assert decision(proxy)["routing"]["reason"] == "pinned"


@pytest.mark.parametrize("asks", [True, False])
def test_usage_comes_to_the_client_that_asked_and_is_counted_always(
    asks: bool, proxy: RunningProxy, local: StandInCloud
) -> None:
    local.reply = lambda _: streamed(*WORDS, *LATER)
    before = tokens(proxy)
    more: dict[str, Any] = {"stream_options": {"include_usage": True}} if asks else {}
    chunks = list(proxy.client.chat.completions.create(**asked(**more)))
    usages = [one.usage for one in chunks if one.usage is not None]
    assert [one.model_dump(exclude_none=True) for one in usages] == ([USAGE] if asks else [])
    assert all(one.choices for one in chunks[: -1 if asks else None])
    answered(proxy)
    assert tokens(proxy) == before + USAGE["completion_tokens"]


def tokens(proxy: RunningProxy) -> float:
    counted = r'ringfence_tokens_total{kind="completion",tier="local"} ([0-9.]+)'
    found = re.search(counted, proxy.metrics().decode())
    return float(found[1]) if found else 0.0


BREAKS: dict[str, tuple[bytes, bool, str]] = {
    "the model dies": (b": canary-4711\n\n", True, "connection"),
    "an event is garbage": (b"data: canary-4711\n\n", False, "garbage"),
    "an event has no end": (b"data: canary-4711" + b"a" * 2**21, False, "too_large"),
    "the model has an error": (
        b'data: {"error":{"message":"canary-4711"}}\n\n',
        False,
        "upstream_error",
    ),
}


@pytest.mark.parametrize("name", BREAKS)
def test_an_answer_that_breaks_off_ends_in_an_error_event_and_nothing_leaves(
    name: str, proxy: RunningProxy, cloud: StandInCloud, local: StandInCloud
) -> None:
    piece, cut, error_type = BREAKS[name]
    local.reply = lambda _: streamed(*WORDS, piece, cut=cut)
    stream = proxy.client.chat.completions.create(**asked())
    held = "".join(next(stream).choices[0].delta.content or "" for _ in WORDS)
    assert held.strip() == BEGUN
    with pytest.raises(openai.APIError) as caught:
        next(stream)
    assert caught.value.code == "local_unavailable"
    assert answered(proxy)["error_type"] == error_type
    counted = rf'ringfence_local_streams_total{{outcome="{error_type}"}} [1-9]'
    assert re.search(counted, proxy.metrics().decode())
    assert len([one for one in local.requests if b"Jane Doe" in one.body]) == 1
    assert cloud.requests == []
    assert b"canary-4711" not in proxy.everything_written()


def test_a_model_that_falls_silent_is_late(
    proxy: RunningProxy, local: StandInCloud, gate: threading.Event
) -> None:
    local.reply = lambda _: streamed(*WORDS, gate, *LATER)
    with listening(proxy, asked()) as events:
        told = list(events)
    assert told[-1]["error"]["code"] == "local_unavailable"
    assert answered(proxy)["error_type"] == "timeout"


def test_a_model_that_is_down_before_the_first_word_is_a_503(
    proxy: RunningProxy, cloud: StandInCloud, local: StandInCloud
) -> None:
    local.reply = lambda _: Reply(503)
    answer = proxy.post(json.dumps(asked()).encode())
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "local_unavailable")
    routing = decision(proxy)["routing"]
    assert (routing["route"], routing["reason"]) == ("refuse", "local_failed")
    assert cloud.requests == []


def test_a_client_that_leaves_hangs_up_on_the_model(
    proxy: RunningProxy, local: StandInCloud
) -> None:
    hung_up = threading.Event()

    class Endless(tuple[bytes, ...]):
        def __iter__(self) -> Iterator[bytes]:
            try:
                for _ in range(20_000):
                    yield WORDS[1]
                    time.sleep(0.001)
            finally:
                hung_up.set()

    local.reply = lambda _: Reply(
        headers=(("content-type", "text/event-stream"),), pieces=Endless((b"x",))
    )
    with listening(proxy, asked()) as events:
        next(events)
    assert hung_up.wait(10)
    assert answered(proxy)["error_type"] == "client_abort"


def test_a_client_that_does_not_read_holds_the_model_back(
    proxy: RunningProxy, local: StandInCloud
) -> None:
    num_written, large = [0], chunk({"content": "word " * 2000})

    class Counted(tuple[bytes, ...]):
        def __iter__(self) -> Iterator[bytes]:
            for _ in range(20_000):
                num_written[0] += 1
                yield large

    local.reply = lambda _: Reply(
        headers=(("content-type", "text/event-stream"),), pieces=Counted((b"x",))
    )
    with listening(proxy, asked()) as events:
        next(events)
        seen = -1
        while seen != num_written[0]:  # until the model stands still
            seen = num_written[0]
            time.sleep(1.5)
        assert seen < 5_000  # 10 kB each; sockets and a few dozen chunks stand between


def test_under_an_idempotency_key_the_answer_is_whole_before_it_is_told(
    proxy: RunningProxy, local: StandInCloud
) -> None:
    local.reply = answers_as_asked
    raw = json.dumps(asked()).encode()
    told = [proxy.post(raw, **{"Idempotency-Key": "pinned-1"}).content for _ in range(2)]
    assert ANSWER.split()[0].encode() in told[0]
    assert told[0].split(b"\n\n")[1:] == told[1].split(b"\n\n")[1:]
    bodies = [one.body for one in local.requests if b"Jane Doe" in one.body]
    assert [b'"stream"' in body for body in bodies] == [False]


def answers_as_asked(recorded: Recorded) -> Reply:
    """A stream to those who asked for one."""
    return streamed(*WORDS, *LATER) if json.loads(recorded.body).get("stream") else Reply()


def test_an_answer_that_cannot_be_pinned_is_not_given_on(
    local: StandInCloud, gate: threading.Event, tmp_path: Path
) -> None:
    env = {"RINGFENCE_LOCAL_BASE_URL": local.base_url, "RINGFENCE_LOCAL_MODEL": "scripted"}
    with running_proxy(tmp_path, None, env) as proxy:
        local.reply = lambda _: streamed(*WORDS[:3], gate, *LATER)
        with listening(proxy, asked()) as events:
            held: list[Any] = []
            while said(held) != "The second ":
                held.append(next(events))
            with closing(sqlite3.connect(next(proxy.data_dir.rglob("pins*.sqlite3")))) as db:
                db.execute("DROP TABLE pins")
            gate.set()
            rest = list(events)
            assert rest[-1]["error"]["code"] == "pins_unavailable"
            assert said(rest) == ""
            assert answered(proxy)["error_type"] == "not_pinned"


def test_a_request_that_takes_too_long_ends_in_an_error_event(
    local: StandInCloud, gate: threading.Event, tmp_path: Path
) -> None:
    env = {
        "RINGFENCE_LOCAL_BASE_URL": local.base_url,
        "RINGFENCE_LOCAL_MODEL": "scripted",
        "RINGFENCE_REQUEST_TIMEOUT_S": "6",
    }
    with running_proxy(tmp_path, None, env) as proxy:
        local.reply = lambda _: streamed(*WORDS, gate, *LATER)
        with listening(proxy, asked()) as events:
            told = list(events)
        assert told[-1]["error"]["code"] == "request_timeout"
        assert answered(proxy)["error_type"] == "timeout"
