"""A chain of cloud models in a running proxy: each attempt on the record, whatever clients do.

The record is verified as an auditor would, with several attempts under one decision.
"""

from __future__ import annotations

import json
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from audit.month import read_month
from audit.verify import verify
from demo.stand_in_cloud import END, Recorded, Reply, StandInCloud, chunk, streamed
from proxy.routing.chain import Chain
from tests.harness import RunningProxy, ringfence, running_proxy, write_policy
from tests.proxy.egress.test_climb import HIGH, LOW, scored
from tests.proxy.routing.tables import a_chain

pytestmark = pytest.mark.slow

QUESTION = "Name the longest river in Europe."
CHEAP, DEAR = "gpt-4o-mini", "gpt-4o"
MADE = a_chain(CHEAP, DEAR, model="smollm2-135m-instruct", threshold=1e-9, thresholds=(-0.5,))


@pytest.fixture
def cloud(cloud: StandInCloud) -> StandInCloud:
    """The stand-in, whose cheap model is unsure."""
    cloud.reply = reply
    return cloud


@pytest.fixture(scope="module")
def proxy(
    _cloud: StandInCloud, local_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningProxy]:
    """A proxy with a chain of two, for which no draft is sure enough."""
    folder = tmp_path_factory.mktemp("chain")
    env = {
        **with_chain(folder, local_url),
        "RINGFENCE_EXPOSE_ROUTE_HEADERS": "true",
        "RINGFENCE_EXPOSE_METRICS": "true",
    }
    with running_proxy(folder, _cloud.base_url, env) as running:
        yield running


def reply(recorded: Recorded) -> Reply:
    body = json.loads(recorded.body)
    if body.get("stream"):
        whole = (chunk({"role": "assistant", "content": "The Volga."}), chunk({}, "stop"), END)
        return streamed(*whole)
    told = LOW if body.get("logprobs") else None
    return Reply(body=scored(f"From {body['model']}.", body["model"], told))


def at_the_gate(there: threading.Event, gate: threading.Event) -> Callable[[Recorded], Reply]:
    """`reply`, but the dear model says that it was asked, and answers behind the gate."""

    def waits(recorded: Recorded) -> Reply:
        if json.loads(recorded.body)["model"] == DEAR:
            there.set()
            gate.wait(60)
        return reply(recorded)

    return waits


def with_chain(folder: Path, local_url: str, made: Chain = MADE) -> dict[str, str]:
    """The settings of a proxy that climbs the chain ``made``, which is kept in ``folder``."""
    made.save(folder / "rungs.json")
    return {
        "RINGFENCE_LOCAL_BASE_URL": local_url,
        "RINGFENCE_CONFIDENCE_THRESHOLD": "",
        "RINGFENCE_RUNGS_FILE": str(folder / "rungs.json"),
    }


def attempts_after(proxy: RunningProxy, before: int, num: int) -> list[dict[str, Any]]:
    """The intents since there were ``before``; each has its one outcome."""
    outcomes: list[Any] = proxy.records_once("egress.outcome", before + num)
    intents: list[Any] = proxy.records("egress.intent")
    assert len(intents) == len(outcomes) == before + num
    assert {one["intent_id"] for one in outcomes} == {one["id"] for one in intents}
    return intents[before:]


def test_an_unsure_answer_climbs_and_the_record_says_why(
    proxy: RunningProxy, cloud: StandInCloud
) -> None:
    before = len(proxy.records("egress.intent"))
    answer = proxy.ask(QUESTION)
    assert (answer.choices[0].message.content, answer.model) == (f"From {DEAR}.", DEAR)
    told = attempts_after(proxy, before, 2)
    assert [(one["attempt"], one["model"]) for one in told] == [(1, CHEAP), (2, DEAR)]
    assert len({one["decision_id"] for one in told}) == 1
    first: Any = proxy.records("egress.outcome")[before]
    assert (first["confidence"]["score"], first["confidence"]["threshold"]) == (-1.5, -0.5)
    assert first["confidence"]["calibration"] == MADE.id
    cloud.reply = lambda _: Reply(body=scored("Sure.", CHEAP, HIGH))
    assert proxy.ask(QUESTION).model == CHEAP
    attempts_after(proxy, before, 3)
    assert b'rung_attempts_total{end="given",rung="1"} 1.0' in proxy.metrics()


def test_the_last_model_streams_to_a_client_that_streams(
    proxy: RunningProxy, cloud: StandInCloud
) -> None:
    before = len(proxy.records("egress.intent"))
    stream: Any = proxy.ask(QUESTION, stream=True)
    said = "".join(one.choices[0].delta.content or "" for one in stream if one.choices)
    assert said == "The Volga."
    attempts_after(proxy, before, 2)
    assert [json.loads(one.body).get("stream") for one in cloud.requests] == [None, True]


def test_a_repeat_under_its_key_climbs_no_second_time(
    proxy: RunningProxy, cloud: StandInCloud
) -> None:
    before = len(proxy.records("egress.intent"))
    message = {"role": "user", "content": QUESTION}
    raw = json.dumps({"model": "ringfence", "messages": [message], "max_tokens": 4}).encode()
    told = [proxy.post(raw, **{"Idempotency-Key": "chain-1"}) for _ in range(2)]
    assert told[0].content == told[1].content
    assert json.loads(told[0].content)["model"] == DEAR
    attempts_after(proxy, before, 2)
    assert len(cloud.requests) == 2


def test_a_client_that_leaves_while_the_first_model_answers_is_not_taken_further(
    proxy: RunningProxy, cloud: StandInCloud
) -> None:
    before = len(proxy.records("egress.intent"))
    there, gate = threading.Event(), threading.Event()

    def waits(recorded: Recorded) -> Reply:
        there.set()
        gate.wait(60)
        return reply(recorded)

    cloud.reply = waits
    message = {"role": "user", "content": QUESTION}
    raw = json.dumps({"model": "ringfence", "messages": [message], "max_tokens": 4}).encode()
    where = httpx2.URL(proxy.url)
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: {where.host}:{where.port}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(raw)}\r\n\r\n"
    )
    with socket.create_connection((where.host, where.port or 80)) as wire:
        wire.sendall(head.encode() + raw)
        assert there.wait(60)
    try:
        (intent,) = attempts_after(proxy, before, 1)
    finally:
        gate.set()
    assert intent["attempt"] == 1
    assert proxy.records("egress.outcome")[before]["error_type"] == "client_abort"
    cloud.reply = reply
    assert proxy.ask(QUESTION).model == DEAR  # and the proxy goes on as before
    assert len(attempts_after(proxy, before, 3)) == 3


def test_what_is_pinned_climbs_nowhere(proxy: RunningProxy, cloud: StandInCloud) -> None:
    proxy.ask("Write to Jane Doe about her contract.")
    assert cloud.requests == []


def test_the_ledger_is_sound_and_its_month_counts_requests_and_attempts(
    local_url: str, cloud: StandInCloud, tmp_path: Path
) -> None:
    env = with_chain(tmp_path, local_url)
    with running_proxy(tmp_path, cloud.base_url, env) as proxy:
        proxy.ask(QUESTION)
        name = str(proxy.records("decision")[0]["time"])[:7]
    ledger = proxy.data_dir / "ledger"
    report = verify(ledger)
    assert (report.is_sound, report.open_intents) == (True, 0)
    (row,) = read_month(ledger, name).transfers.values()
    assert (row.requests, row.attempts) == (1, 2)


def test_a_proxy_that_is_killed_while_it_climbs_leaves_a_sound_record(
    local_url: str, cloud: StandInCloud, gate: threading.Event, tmp_path: Path
) -> None:
    env = with_chain(tmp_path, local_url)
    there = threading.Event()
    cloud.reply = at_the_gate(there, gate)
    with running_proxy(tmp_path, cloud.base_url, env) as proxy, ThreadPoolExecutor(1) as client:
        asked = client.submit(proxy.ask, QUESTION)
        assert there.wait(60)
        proxy.process.send_signal(signal.SIGKILL)
        with pytest.raises(openai.APIConnectionError):
            asked.result()
    gate.set()
    cloud.reply = reply
    with running_proxy(tmp_path, cloud.base_url, env) as proxy:
        assert proxy.ask(QUESTION).model == DEAR
        outcomes: list[Any] = proxy.records("egress.outcome")
    ledger = proxy.data_dir / "ledger"
    assert verify(ledger).is_sound
    lost = [one for one in outcomes if one["sent"] == "unknown"]
    assert [one["attempt"] for one in lost] == [2]
    assert len(outcomes) == 4


def test_a_chain_that_names_what_no_destination_has_does_not_start(
    local_url: str, tmp_path: Path
) -> None:
    unknown = a_chain(CHEAP, "gpt-9", model="smollm2-135m-instruct")
    unknown.save(tmp_path / "rungs.json")
    told = ringfence(
        "check",
        RINGFENCE_LOCAL_BASE_URL=local_url,
        RINGFENCE_POLICY_FILE=str(write_policy(tmp_path, None)),
        RINGFENCE_RUNGS_FILE=str(tmp_path / "rungs.json"),
        RINGFENCE_DATA_DIR=str(tmp_path / "data"),
    )
    assert told.returncode == 1
    assert "no destination of the policy has gpt-9" in " ".join(told.stdout.split())
    env = with_chain(tmp_path, local_url, unknown)
    with pytest.raises(AssertionError, match="no destination of the policy has gpt-9"):
        with running_proxy(tmp_path, "http://127.0.0.1:9/v1", env):
            pass
