"""The same key twice: one answer, one piece of work; in a real server, and over its store alone."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from audit.errors import LedgerUnwritable
from audit.record import CallerRecord, ReplayRecord
from proxy.api.once import KIND, Asked, KeptFault, KeyConflict, Once, packed, unpacked
from proxy.errors import CloudError, LocalBackendError, RequestError
from proxy.objects import ObjectStore, Quota
from proxy.types import Confidence, Response, Route, RouteReason, Target
from tests.proxy.api.front_door import DECISION, FrontDoor
from tests.proxy.api.test_answer import body, wait_for
from tests.proxy.api.test_gate import code, post, status

REPEAT = ReplayRecord(None, "req_1", "chat.completions", CallerRecord("a", "t", "e", "key-1"), 200)
ASKED = Asked("key-1", "k-jane.doe@example-mail.com", "digest", REPEAT)


class Noted(list[ReplayRecord]):
    """A ledger that keeps the repeats it is told of."""

    async def __call__(self, record: ReplayRecord) -> None:
        self.append(record)


async def unwritable(_: ReplayRecord) -> None:
    """A ledger that cannot be written."""
    raise LedgerUnwritable("full")


def with_key(text: str, key: str, **more: Any) -> bytes:
    return post(body(text, **more), more=b"Idempotency-Key: " + key.encode() + b"\r\n")


def payload(got: bytes) -> Any:
    return json.loads(got.partition(b"\r\n\r\n")[2])


def seen(door: FrontDoor) -> int:
    return door.notes().count("seen")


def test_a_repeat_gets_the_same_answer_and_asks_nobody(door: FrontDoor) -> None:
    before = seen(door)
    first, second = (door.raw(with_key("echo", "repeat")) for _ in range(2))
    assert (status(first), payload(first)) == (200, payload(second))
    assert f"x-ringfence-decision-id: {DECISION}".encode() in second
    assert door.notes()[-1] == f"replay:{DECISION}:200:open"
    assert seen(door) == before + 1
    assert status(door.raw(with_key("echo", "another"))) == 200
    assert status(door.raw(post(body("echo")))) == 200
    assert seen(door) == before + 3


def test_a_stream_is_told_again_from_its_beginning(door: FrontDoor) -> None:
    before = seen(door)
    first, second = (door.raw(with_key("echo", "stream", stream=True)) for _ in range(2))
    assert first.count(b"data: ") > 2
    assert first.partition(b": decision")[2] == second.partition(b": decision")[2]
    assert b"[DONE]" in second
    assert seen(door) == before + 1


@pytest.mark.parametrize("other", [{"text": "echo twice"}, {"stream": True}, {"user": "x"}])
def test_another_request_under_the_same_key_is_refused(
    other: dict[str, Any], door: FrontDoor
) -> None:
    key = f"other-{next(iter(other))}"
    assert status(door.raw(with_key("echo", key))) == 200
    got = door.raw(with_key(**{"text": "echo", "key": key, **other}))
    assert (status(got), code(got)) == (422, "idempotency_key_reused")


def test_another_route_is_another_request(door: FrontDoor) -> None:
    raw = b'{"model": "m", "messages": [{"role": "user", "content": "echo"}], "input": "echo"}'
    more = b"Idempotency-Key: route\r\n"
    assert status(door.raw(post(raw, more=more))) == 200
    got = door.raw(post(raw, path=b"/v1/responses", more=more))
    assert (status(got), code(got)) == (422, "idempotency_key_reused")


def test_a_repeat_that_comes_too_early_is_told_so(door: FrontDoor) -> None:
    before = seen(door)
    first: list[bytes] = []
    asking = threading.Thread(
        target=lambda: first.append(door.raw(with_key("sleep 1 echo", "early")))
    )
    asking.start()
    assert wait_for(door, "seen", before + 1)
    got = door.raw(with_key("sleep 1 echo", "early"))
    assert (status(got), code(got)) == (409, "idempotency_in_progress")
    asking.join()
    assert payload(door.raw(with_key("sleep 1 echo", "early"))) == payload(first[0])
    assert seen(door) == before + 1


@pytest.mark.parametrize("stream", [False, True])
def test_the_work_goes_on_when_the_client_has_left(door: FrontDoor, stream: bool) -> None:
    before, done = seen(door), door.notes().count("done")
    request = with_key("sleep 0.6 echo", f"left-{stream}", stream=stream)
    with socket.create_connection(("127.0.0.1", door.port)) as wire:
        wire.sendall(request)
        assert wait_for(door, "seen", before + 1)
        time.sleep(0.3)  # a stream has sent its first keep-alive by now
    assert wait_for(door, "done", done + 1)
    deadline = time.monotonic() + 5
    while status(got := door.raw(request)) == 409:
        assert time.monotonic() < deadline
    assert b"The" in got
    assert seen(door) == before + 1


@pytest.mark.parametrize(
    ("text", "expected", "times"),
    [
        ("fail cloud", (502, "cloud_unavailable"), 1),  # it may have left
        ("fail bug", (500, "internal_error"), 1),
        ("fail local", (503, "local_unavailable"), 2),  # a repeat may go better
        ("fail audit", (503, "ledger_unwritable"), 2),
        ("block", (400, "blocked_by_policy"), 2),
    ],
)
def test_a_fault_is_kept_only_if_something_may_have_left(
    text: str, expected: tuple[int, str], times: int, door: FrontDoor
) -> None:
    before = seen(door)
    for _ in range(2):
        got = door.raw(with_key(text, f"fault-{text.replace(' ', '-')}"))
        assert (status(got), code(got)) == expected
    assert seen(door) == before + times


@pytest.mark.parametrize("key", ["", "x" * 256, "a b", "a\r\nIdempotency-Key: b"])
def test_a_key_that_is_none_is_refused(key: str, door: FrontDoor) -> None:
    got = door.raw(with_key("echo", key))
    assert (status(got), code(got)) == (400, "invalid_idempotency_key")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ObjectStore]:
    made = ObjectStore(tmp_path / "objects.sqlite3", b"k" * 32, 86_400.0)
    yield made
    made.close()


async def test_each_api_key_has_keys_of_its_own_and_nothing_is_in_the_clear(
    store: ObjectStore, tmp_path: Path
) -> None:
    once = Once(lambda: store, 60.0, Noted())

    async def secret() -> dict[str, str]:
        return {"text": "Jane Doe, 12 High Street"}

    async def other() -> dict[str, str]:
        return {"text": "of another"}

    mine = await once.do(ASKED, secret)
    theirs = await once.do(Asked("key-2", ASKED.key, ASKED.digest, REPEAT), other)
    assert (mine["text"], theirs["text"]) == ("Jane Doe, 12 High Street", "of another")
    assert await once.do(ASKED, other) == mine
    written = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"jane.doe" not in written
    assert b"High Street" not in written


async def test_two_processes_do_the_work_once(store: ObjectStore, tmp_path: Path) -> None:
    other = ObjectStore(tmp_path / "objects.sqlite3", b"k" * 32, 86_400.0)
    times, refused, all_others_refused = 0, [], asyncio.Event()

    async def work() -> dict[str, int]:
        nonlocal times
        times += 1
        await all_others_refused.wait()
        return {"times": times}

    async def ask(once: Once) -> object:
        try:
            return await once.do(ASKED, work)
        except KeyConflict as conflict:
            refused.append(conflict.code)
            if len(refused) == 7:
                all_others_refused.set()
            return None

    both = [Once(lambda: store, 60.0, Noted()), Once(lambda: other, 60.0, Noted())]
    async with asyncio.timeout(60):
        ends = await asyncio.gather(*(ask(once) for once in both * 4))
    assert times == 1
    assert sorted(ends, key=bool) == [None] * 7 + [{"times": 1}]
    assert set(refused) == {"idempotency_in_progress"}
    other.close()


async def test_work_that_was_cut_off_is_not_done_again(store: ObjectStore) -> None:
    """As after a crash: there is a claim, its time is over, and there is no answer."""
    once = Once(lambda: store, -5.0, Noted())
    working = asyncio.create_task(once.do(ASKED, lambda: asyncio.sleep(60, {})))
    async with asyncio.timeout(5):
        while not await store.all(KIND, ASKED.owner):
            await asyncio.sleep(0.01)
    (inner,) = once._running
    inner.cancel()
    await asyncio.wait({working})
    with pytest.raises(KeyConflict) as caught:
        await once.do(ASKED, lambda: asyncio.sleep(0, {}))
    assert caught.value.code == "idempotency_unknown"


async def test_a_repeat_is_on_the_record_before_its_answer(store: ObjectStore) -> None:
    noted = Noted()
    once = Once(lambda: store, 60.0, noted)
    done = {"status": 200, "decision_id": DECISION, "body": {}}

    async def work() -> dict[str, Any]:
        return done

    assert await once.do(ASKED, work) == done
    assert noted == []
    assert await once.do(ASKED, work) == done
    assert noted == [replace(REPEAT, decision_id=DECISION)]


async def test_a_repeat_that_cannot_be_recorded_is_not_answered(store: ObjectStore) -> None:
    async def work() -> dict[str, Any]:
        return {"status": 200, "decision_id": DECISION, "body": {"text": "an answer"}}

    await Once(lambda: store, 60.0, Noted()).do(ASKED, work)
    with pytest.raises(LedgerUnwritable):
        await Once(lambda: store, 60.0, unwritable).do(ASKED, work)
    noted = Noted()
    assert (await Once(lambda: store, 60.0, noted).do(ASKED, work))["decision_id"] == DECISION
    assert len(noted) == 1


async def test_another_request_under_the_key_gives_nothing_and_leaves_no_record(
    store: ObjectStore,
) -> None:
    once = Once(lambda: store, 60.0, unwritable)

    async def work() -> dict[str, Any]:
        return {}

    await once.do(ASKED, work)
    with pytest.raises(RequestError) as caught:
        await once.do(replace(ASKED, digest="other"), work)
    assert caught.value.code == "idempotency_key_reused"


async def test_a_batch_that_is_made_again_is_recorded_with_its_http_status(
    store: ObjectStore,
) -> None:
    noted = Noted()
    once = Once(lambda: store, 60.0, noted)

    async def work() -> dict[str, Any]:
        return {"id": "batch_1", "status": "validating"}

    for _ in range(2):
        await once.do(ASKED, work)
    assert noted == [REPEAT]


async def test_a_kept_fault_says_what_the_first_one_said(store: ObjectStore) -> None:
    noted = Noted()
    once = Once(lambda: store, 60.0, noted)

    async def fails() -> dict[str, str]:
        raise CloudError("The cloud did not answer.", error_type="timeout", http_status=504)

    with pytest.raises(CloudError) as first:
        await once.do(ASKED, fails)
    with pytest.raises(KeptFault) as again:
        await once.do(ASKED, fails)
    assert again.value.body == first.value.body
    assert again.value.http_status == 504
    assert noted == [replace(REPEAT, status=504)]


@pytest.mark.parametrize(
    "fault",
    [LocalBackendError("Down."), CloudError("Used up.", error_type="over_budget", sent="no")],
)
async def test_a_key_is_free_again_when_nothing_left(fault: Exception, store: ObjectStore) -> None:
    once = Once(lambda: store, 60.0, Noted())

    async def fails() -> dict[str, str]:
        raise fault

    async def works() -> dict[str, str]:
        return {"text": "up"}

    with pytest.raises(type(fault)):
        await once.do(ASKED, fails)
    assert await once.do(ASKED, works) == {"text": "up"}


async def test_too_many_keys_are_refused_and_none_is_forgotten(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.api.once.QUOTA", Quota(2, drops_oldest=False))
    once = Once(lambda: store, 60.0, Noted())

    async def work() -> dict[str, str]:
        return {}

    for place in range(2):
        await once.do(Asked("key-1", f"k{place}", "d", REPEAT), work)
    with pytest.raises(RequestError) as caught:
        await once.do(Asked("key-1", "k2", "d", REPEAT), work)
    assert (caught.value.http_status, caught.value.code) == (429, "store_full")
    assert len(await store.all(KIND, "key-1")) == 2


def test_a_response_comes_back_as_it_was() -> None:
    confidence = Confidence(-0.7, -0.6, "mean_logprob", "cal_1", ("hedge:i don't know",))
    route = Route(Target.LOCAL, RouteReason.CLOUD_FAILED, degraded=True)
    response = Response("dec_1", 200, {"a": [1, None]}, route, confidence, pinned=True)
    assert unpacked(json.loads(json.dumps(packed(response)))) == response
