"""One escalation: whatever happens, one intent and exactly one outcome."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from audit.ledger import Ledger
from demo.stand_in_cloud import Reply, StandInCloud
from proxy.egress.attempt import CloudTier
from proxy.egress.cloud import OpenAICloud
from proxy.egress.limit import AttemptLimit
from proxy.egress.transport import Door
from proxy.errors import CloudError, EgressDenied
from proxy.policy.switch import EgressSwitch
from proxy.types import Action, Destination
from tests.factories import a_body, a_decision, a_destination, a_request
from tests.harness import records_in
from tests.proxy.egress.test_body import inspected


@pytest.fixture
def cloud() -> Iterator[StandInCloud]:
    with StandInCloud() as server:
        yield server


@dataclass
class Stage:
    """A cloud tier over a real ledger and the real SDK."""

    tier: CloudTier
    folder: Path
    destination: Destination

    async def escalate(self, action: Action = Action.ALLOW) -> object:
        body = a_body()
        decision = a_decision(action, destinations=(self.destination,))
        return await self.tier.escalate(
            a_request(body), inspected(body), decision, self.destination
        )

    def kinds(self) -> list[tuple[object, object, object]]:
        return [
            (record["kind"], record.get("sent"), record.get("error_type"))
            for record in records_in(self.folder)
            if str(record["kind"]).startswith("egress")
        ]


@pytest.fixture
async def stage(cloud: StandInCloud, tmp_path: Path) -> AsyncIterator[Stage]:
    ledger = Ledger.open(tmp_path / "ledger", keys_dir=tmp_path / "keys")
    door = Door()
    tier = CloudTier(
        OpenAICloud(door, api_key="k", timeout_s=5),
        ledger,
        AttemptLimit(3),
        EgressSwitch(tmp_path).is_on,
    )
    yield Stage(tier, tmp_path / "ledger", a_destination(cloud.base_url))
    await tier.aclose()
    await door.aclose()
    await ledger.close()


async def test_an_answer_leaves_an_intent_and_an_outcome(stage: Stage) -> None:
    await stage.escalate()
    assert stage.kinds() == [("egress.intent", None, None), ("egress.outcome", "yes", None)]


async def test_a_fault_leaves_an_intent_and_an_outcome(stage: Stage, cloud: StandInCloud) -> None:
    cloud.reply = lambda _: Reply(500, b"{}")
    with pytest.raises(CloudError):
        await stage.escalate()
    assert stage.kinds()[1:] == [("egress.outcome", "yes", "status_5xx")]


@pytest.mark.parametrize("delay_s", [0.0, 0.002, 0.02, 0.3])
async def test_a_client_that_hangs_up_leaves_one_outcome_and_no_waiting(
    delay_s: float, stage: Stage, cloud: StandInCloud
) -> None:
    cloud.reply = lambda _: Reply(delay_s=1.0)
    task = asyncio.create_task(stage.escalate())
    await asyncio.sleep(delay_s)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await stage.tier.aclose()
    kinds = [kind for kind, _, _ in stage.kinds()]
    assert kinds in ([], ["egress.intent", "egress.outcome"])
    assert len(cloud.requests) <= len(kinds) // 2


@pytest.mark.parametrize("action", [Action.BLOCK, Action.LOCAL_ONLY, Action.MASK])
async def test_refuses_what_the_decision_forbids(
    action: Action, stage: Stage, cloud: StandInCloud
) -> None:
    with pytest.raises(EgressDenied):
        await stage.escalate(action)
    assert cloud.requests == []
    assert stage.kinds() == []


async def test_refuses_a_destination_that_the_decision_does_not_name(
    stage: Stage, cloud: StandInCloud
) -> None:
    body = a_body()
    with pytest.raises(EgressDenied):
        await stage.tier.escalate(a_request(body), inspected(body), a_decision(), stage.destination)
    assert cloud.requests == []


async def test_the_cap_holds_whatever_is_asked(stage: Stage, cloud: StandInCloud) -> None:
    results = await asyncio.gather(*(stage.escalate() for _ in range(10)), return_exceptions=True)
    refused = [r for r in results if isinstance(r, CloudError) and r.upstream_error == "capped"]
    assert (len(cloud.requests), len(refused)) == (3, 7)
    assert not stage.tier.is_ready


async def test_sends_nothing_while_the_switch_is_off(stage: Stage, cloud: StandInCloud) -> None:
    switch = EgressSwitch(stage.folder.parent)
    switch.turn_off("sec", "incident")
    assert not stage.tier.is_ready
    with pytest.raises(CloudError) as caught:
        await stage.escalate()
    assert (caught.value.upstream_error, caught.value.sent) == ("switched_off", "no")
    assert cloud.requests == []
    assert stage.kinds() == [
        ("egress.intent", None, None),
        ("egress.outcome", "no", "switched_off"),
    ]
    switch.turn_on()
    assert stage.tier.is_ready
    assert await stage.escalate()
