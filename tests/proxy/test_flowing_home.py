"""Which requests get a local answer while it is made, and what holds before they do.

The ledger, the pin store, the policy and the endpoint are real; only the model is a stand-in.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import pytest

from audit.errors import LedgerUnwritable
from demo.stand_in_cloud import END, Reply, StandInCloud, chunk, streamed
from proxy.egress.attempt import CloudTier
from proxy.egress.limit import AttemptLimit
from proxy.errors import CloudError, LocalBackendError
from proxy.flowing import LiveAnswer
from proxy.local.openai_http import OpenAIHTTPBackend
from proxy.pipeline import Pipeline
from proxy.policy.switch import EgressSwitch
from proxy.routing.committing import Commitment, EarlyCommit
from proxy.routing.route import Modes
from proxy.types import Confidence, JSONObject, Response, Route, RouteReason, Target
from tests.factories import a_body, a_finding, a_request
from tests.proxy.local.test_watched import GIVES, token
from tests.proxy.test_pipeline import (
    NAMED,
    ReadingInspector,
    World,
    masking,
    unwritable,
    world,
)

__all__ = ["masking", "world"]  # fixtures

SAID = "The second tunnel under the north wing closes before summer, since its roof sinks."
PIECES = (chunk({"content": "The second "}), chunk({"content": SAID[11:]}), chunk({}, "stop"), END)
PERSON = (a_finding("PERSON"),)


@pytest.fixture
def server() -> Iterator[StandInCloud]:
    with StandInCloud() as server:
        server.reply = lambda _: streamed(*PIECES)
        yield server


@pytest.fixture
async def home(world: World, server: StandInCloud) -> AsyncIterator[World]:
    """A world whose local tier is an endpoint that streams."""
    backend = OpenAIHTTPBackend(server.base_url, "local", timeout_s=10.0)
    world.parts = replace(world.parts, local=backend, flowing=backend)
    yield world
    await backend.aclose()


async def ask(world: World, body: JSONObject | None = None, *, live: bool = True) -> Response:
    request = replace(a_request(body or a_body(stream=True)), live=live)
    return await Pipeline(world.parts).answer(request)


async def read(live: LiveAnswer | None) -> str:
    assert live is not None
    chunks: list[Any] = [one async for one in live]
    return "".join(c["delta"].get("content") or "" for one in chunks for c in one["choices"])


async def test_a_pinned_answer_flows_and_is_recorded_before_it_does(
    home: World, server: StandInCloud
) -> None:
    home.inspector.findings = PERSON
    response = await ask(home)
    assert (response.http_status, response.pinned, response.confidence) == (200, True, None)
    routing = home.routing()
    assert (routing["route"], routing["reason"]) == ("local", "pinned")
    assert (routing["score"], routing["estimator"]) == (None, None)
    (record,) = [r for r in home.records() if r["kind"] == "decision"]
    assert "draft" in record["latency_ms"]  # type: ignore[operator]
    assert b"answers_total{" not in home.parts.metrics.exposition()
    assert await read(response.live) == SAID
    told = home.parts.metrics.exposition()
    assert b'local_streams_total{outcome="ok"} 1.0' in told
    assert b'answers_total{degraded="false",reason="pinned",route="local"} 1.0' in told
    home.inspector.findings = ()
    server.reply = lambda _: Reply()
    later = await ask(home, a_body(f"They say: {SAID}"), live=False)
    assert later.route.reason is RouteReason.PINNED


@pytest.mark.parametrize("why", ["may leave", "not live", "no stream", "shadow"])
async def test_whatever_hangs_on_the_confidence_or_must_be_whole_is_asked_for_whole(
    why: str, home: World, server: StandInCloud
) -> None:
    server.reply = lambda _: Reply()
    home.inspector.findings = PERSON if why in ("not live", "no stream") else ()
    if why == "shadow":
        home.parts = replace(home.parts, modes=Modes(shadow=True))
    body = a_body() if why == "no stream" else a_body(stream=True)
    response = await ask(home, body, live=why in ("may leave", "shadow"))
    assert response.live is None
    assert b'"stream"' not in server.requests[0].body


@pytest.mark.parametrize("why", ["no cloud", "switched off"])
async def test_where_no_cloud_could_answer_the_local_answer_flows(
    why: str, home: World, server: StandInCloud
) -> None:
    if why == "no cloud":
        home.parts = replace(home.parts, cloud=None)
    else:
        EgressSwitch(home.folder).turn_off("operator", "drill")
    response = await ask(home)
    assert (response.pinned, response.confidence) == (False, None)
    assert response.route == Route(Target.LOCAL, RouteReason.CLOUD_UNAVAILABLE, degraded=True)
    assert home.routing()["reason"] == "cloud_unavailable"
    assert await read(response.live) == SAID
    home.parts = replace(home.parts, modes=Modes(shadow=True))
    server.reply = lambda _: Reply()
    assert (await ask(home)).live is None  # its confidence tells what would have been


async def test_a_cloud_that_fails_with_its_last_attempt_leaves_a_whole_answer_from_home(
    home: World, server: StandInCloud
) -> None:
    server.reply = lambda asked: streamed(*PIECES) if b'"stream"' in asked.body else Reply()
    parts, switch = home.parts, EgressSwitch(home.folder).is_on
    tier = CloudTier(home.cloud, parts.ledger, AttemptLimit(1), switch, parts.metrics)
    home.cloud.fault = CloudError("down", error_type="connection", sent="no")
    modes = Modes(cloud_first=frozenset({"app"}))
    home.parts = replace(parts, modes=modes, cloud=tier)
    response = await ask(home)
    assert (response.http_status, response.live) == (200, None)
    assert response.route == Route(Target.LOCAL, RouteReason.CLOUD_FAILED, degraded=True)
    assert not tier.is_ready  # nobody could answer now, so that a new request would flow
    assert len(home.cloud.bodies) == 1
    await tier.aclose()


async def test_where_no_cloud_could_answer_what_saw_masked_values_flows_behind_its_pins(
    home: World, masking: World
) -> None:
    home.parts = replace(home.parts, inspector=ReadingInspector(), cloud=None)
    response = await ask(home, a_body(NAMED, stream=True))
    assert response.pinned
    told = await read(response.live)
    assert await home.parts.pins.find(lambda: [told.casefold()]) is not None


async def test_a_pinned_answer_flows_in_the_shadow_too(home: World) -> None:
    home.parts = replace(home.parts, modes=Modes(shadow=True))
    home.inspector.findings = PERSON
    response = await ask(home)
    assert response.route.reason is RouteReason.PINNED
    assert await read(response.live) == SAID


@pytest.mark.parametrize("let_through", [True, False])
async def test_an_unrecorded_answer_flows_only_where_policy_says_so(
    let_through: bool, home: World, server: StandInCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.change_policy(unrecorded_local=let_through)
    unwritable(home, monkeypatch, "decision")
    home.inspector.findings = PERSON
    if let_through:
        response = await ask(home)
        assert response.route.reason is RouteReason.LEDGER_UNWRITABLE
        assert await read(response.live) == SAID
    else:
        with pytest.raises(LedgerUnwritable):
            await ask(home)
        await nothing_runs()
    home.inspector.findings = ()
    assert (await home.parts.pins.find(lambda: [SAID.casefold()]) is not None) == let_through


async def nothing_runs() -> None:
    """Return once no task but this one is left."""
    while len(asyncio.all_tasks()) > 1:
        await asyncio.sleep(0.001)


async def test_the_local_model_by_name_flows_and_pins_only_what_was_masked(
    home: World, masking: World
) -> None:
    home.parts = replace(home.parts, inspector=ReadingInspector())
    for text, pinned in (("Name a river.", False), (NAMED, True)):
        response = await ask(home, a_body(text, stream=True, model="local"))
        assert (response.route.reason, response.pinned) == (RouteReason.MODEL_IS_LOCAL, pinned)
        assert await read(response.live) == SAID
        found = await home.parts.pins.find(lambda: [SAID.casefold()])
        assert (found is not None) == pinned


async def test_an_endpoint_that_does_not_stream_answers_whole(
    home: World, server: StandInCloud
) -> None:
    server.reply = lambda asked: Reply(400 if b'"stream"' in asked.body else 200)
    home.inspector.findings = PERSON
    response = await ask(home)
    assert (response.live, response.http_status, response.pinned) == (None, 200, True)
    assert response.confidence is not None


@pytest.mark.parametrize("turns", range(0, 80, 4))
async def test_a_client_that_leaves_at_any_moment_leaves_one_record_and_no_work(
    turns: int, home: World, server: StandInCloud, gate: threading.Event
) -> None:
    server.reply = lambda _: streamed(*PIECES[:1], gate, *PIECES[1:])
    home.inspector.findings = PERSON

    async def work() -> None:
        response = await ask(home)
        assert response.live is not None
        try:
            await read(response.live)
        finally:
            response.live.close()

    task = asyncio.create_task(work())
    for _ in range(turns):
        await asyncio.sleep(0.001)
    task.cancel()
    await asyncio.wait({task})
    await nothing_runs()
    assert home.count("decision") <= 1
    assert home.cloud.bodies == []


AFTER = 4
MADE = Commitment(AFTER, -0.3, 0.02, 500, 0.4)
SURE_PIECES = [token(f"sure{n} ", -0.1 - n / 100) for n in range(6)]
UNSURE_PIECES = [token(f"word{n} ", -1.1 - n / 100) for n in range(6)]
LAST = (chunk({}, "stop"), END)


@pytest.fixture
def committing(home: World, server: StandInCloud) -> World:
    """A world that commits to drafts which begin surely."""
    backend = home.parts.flowing
    assert isinstance(backend, OpenAIHTTPBackend)
    backend._abilities = GIVES
    early = EarlyCommit(backend, "mean_logprob", -0.6, MADE, home.parts.metrics)
    home.parts = replace(home.parts, committing=early)
    server.reply = lambda _: streamed(*SURE_PIECES, *LAST)
    return home


async def test_a_sure_beginning_is_told_before_the_end_is_written(
    committing: World, server: StandInCloud, gate: threading.Event
) -> None:
    server.reply = lambda _: streamed(*SURE_PIECES[:AFTER], gate, *SURE_PIECES[AFTER:], *LAST)
    response = await ask(committing)
    assert response.route.reason is RouteReason.COMMITTED_EARLY
    assert response.confidence is not None
    routing = committing.routing()
    assert (routing["route"], routing["reason"]) == ("local", "committed_early")
    assert routing["score"] == pytest.approx(-0.115)
    gate.set()
    assert (await read(response.live)).startswith("sure0 sure1 sure2 ")
    told = committing.parts.metrics.exposition()
    assert b'early_commits_total{commit="kept"} 1.0' in told
    assert await committing.parts.pins.find(lambda: ["sure0 sure1 sure2 sure3 sure4 sure5"]) is None


async def test_a_client_that_leaves_while_a_beginning_is_scored_leaves_no_stream_open(
    committing: World, server: StandInCloud, gate: threading.Event
) -> None:
    server.reply = lambda _: streamed(*SURE_PIECES[:AFTER], gate, *SURE_PIECES[AFTER:], *LAST)
    assert isinstance(committing.parts.flowing, OpenAIHTTPBackend)
    committing.parts.flowing._timeout_s = 300.0
    committing.parts.flowing._wire.timeout = 300.0
    scoring = asyncio.Event()

    class Slow:
        async def estimate(self, *_: object, **__: object) -> Confidence:
            scoring.set()
            await asyncio.sleep(300)
            raise AssertionError("nobody waits for this")

    committing.parts = replace(committing.parts, estimator=Slow())
    asking = asyncio.create_task(ask(committing))
    async with asyncio.timeout(30):
        await scoring.wait()
        asking.cancel()
        await asyncio.wait({asking})
        await nothing_runs()  # the gate is still shut
    assert committing.routing()["reason"] == "client_gone"


async def test_what_would_have_escalated_after_all_is_counted(
    committing: World, server: StandInCloud
) -> None:
    server.reply = lambda _: streamed(*SURE_PIECES[:AFTER], *UNSURE_PIECES * 3, *LAST)
    response = await ask(committing)
    assert response.route.reason is RouteReason.COMMITTED_EARLY
    assert await read(response.live)
    told = committing.parts.metrics.exposition()
    assert b'early_commits_total{commit="would_escalate"} 1.0' in told
    assert committing.cloud.bodies == []


@pytest.mark.parametrize("why", ["unsure", "doubt", "not live", "shadow", "no budget"])
async def test_what_is_not_committed_to_goes_as_ever(
    why: str, committing: World, server: StandInCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = UNSURE_PIECES if why == "unsure" else SURE_PIECES
    if why == "doubt":
        pieces = [token("I don't know. ", -0.05), *SURE_PIECES]
    server.reply = lambda asked: streamed(*pieces, *LAST) if b'"stream"' in asked.body else Reply()
    if why == "shadow":
        committing.parts = replace(committing.parts, modes=Modes(shadow=True))
    if why == "no budget":

        async def nothing_left(_: object, __: str) -> float:
            return 0.0

        monkeypatch.setattr(CloudTier, "left_share", nothing_left)
    response = await ask(committing, live=why != "not live")
    assert response.live is None
    assert (len(committing.cloud.bodies) == 1) == (why in ("unsure", "doubt"))
    assert committing.routing()["reason"] != "committed_early"


async def test_what_policy_pins_is_never_committed_to_but_flows_as_pinned(
    committing: World,
) -> None:
    committing.inspector.findings = PERSON
    response = await ask(committing)
    assert (response.route.reason, response.pinned) == (RouteReason.PINNED, True)
    assert await read(response.live)
    assert b"early_commits_total{" not in committing.parts.metrics.exposition()


async def test_a_committed_answer_that_saw_masked_values_is_pinned_piece_by_piece(
    committing: World, masking: World
) -> None:
    committing.parts = replace(committing.parts, inspector=ReadingInspector())
    response = await ask(committing, a_body(NAMED, stream=True))
    assert (response.route.reason, response.pinned) == (RouteReason.COMMITTED_EARLY, True)
    told = " ".join((await read(response.live)).split())
    assert await committing.parts.pins.find(lambda: [told]) is not None


@pytest.mark.parametrize("let_through", [True, False])
async def test_a_commit_that_cannot_be_recorded_follows_the_policy(
    let_through: bool, committing: World, masking: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    committing.change_policy(unrecorded_local=let_through)
    committing.parts = replace(committing.parts, inspector=ReadingInspector())
    unwritable(committing, monkeypatch, "decision")
    asked = a_body(NAMED, stream=True)
    if let_through:
        assert await read((await ask(committing, asked)).live)
    else:
        with pytest.raises(LedgerUnwritable):
            await ask(committing, asked)
        await nothing_runs()
    assert committing.cloud.bodies == []


async def test_a_committed_answer_that_breaks_off_is_no_second_answer(
    committing: World, server: StandInCloud
) -> None:
    server.reply = lambda _: streamed(*SURE_PIECES, cut=True)
    response = await ask(committing)
    with pytest.raises(LocalBackendError):
        await read(response.live)
    assert committing.cloud.bodies == []
    assert b'early_commits_total{commit="broken"} 1.0' in committing.parts.metrics.exposition()
