"""Which answers are kept to learn from: those that policy lets be kept, as they came."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from typer.testing import CliRunner

from audit.captures import open_answer_to
from audit.vault import VAULT
from demo.stand_in_cloud import Reply, StandInCloud, completion
from proxy.assembly import Proxy
from proxy.egress.attempt import Aim
from proxy.errors import AnswerWithheld, CloudError, SettingsError
from proxy.policy.cli import app
from proxy.settings import load_settings
from proxy.types import Action, AnswerScan, Decision, Inspection, JSONObject, Outcome, Scan
from tests.factories import a_body, a_decision, a_request
from tests.harness import SCHEMA, records_in, write_policy
from tests.proxy.egress.masking import inspect, masked
from tests.proxy.egress.test_attempt import Stage
from tests.proxy.egress.test_attempt import capturing as capturing
from tests.proxy.egress.test_attempt import cloud as cloud
from tests.proxy.egress.test_attempt import stage as stage
from tests.proxy.egress.test_body import inspected

SAID = "It is the Volga, at 3,530 km."


def keeping(stage: Stage, action: Action = Action.ALLOW, scan: Scan | None = None) -> Decision:
    decision = a_decision(action, destinations=(stage.destination,))
    looked_for = AnswerScan(scan, frozenset({"PERSON"}), 0.5) if scan else None
    return replace(decision, keep_answer=True, scan=looked_for)


async def ask(stage: Stage, decision: Decision, route: str = "chat.completions") -> Outcome:
    body = a_body() if route == "chat.completions" else {"model": "ringfence", "input": "Hello."}
    request = replace(a_request(body), route=route)

    async def look(said: JSONObject) -> Inspection:
        return inspect(said)

    outcome = await stage.tier.escalate(
        request, inspected(body), decision, Aim(stage.destination), None, look
    )
    assert isinstance(outcome, Outcome)
    return outcome


def kept(stage: Stage) -> object:
    """What the one outcome says of its answer."""
    (outcome,) = (r for r in records_in(stage.folder) if r["kind"] == "egress.outcome")
    SCHEMA.validate(outcome)
    return outcome.get("vault")


def opened(stage: Stage, key: Path) -> bytes:
    (intent,) = (r for r in records_in(stage.folder) if r["kind"] == "egress.intent")
    return open_answer_to(stage.folder, str(intent["id"]), key)


async def test_an_answer_is_kept_byte_for_byte(
    capturing: Stage, cloud: StandInCloud, tmp_path: Path
) -> None:
    wire = completion(SAID, "m") + b" \n"
    cloud.reply = lambda _: Reply(200, wire)
    await ask(capturing, keeping(capturing))
    assert opened(capturing, tmp_path / "private.pem") == wire
    stored = b"".join(p.read_bytes() for p in capturing.folder.rglob("*") if p.is_file())
    assert b"Volga" not in stored


async def test_the_answer_to_a_masked_request_is_kept_masked(
    capturing: Stage, cloud: StandInCloud, tmp_path: Path
) -> None:
    body = a_body("Jane Doe is in.")
    done = masked(body)
    assert done is not None
    said = str(json.loads(json.dumps(done.body))["messages"][0]["content"])
    cloud.reply = lambda _: Reply(200, completion(said, "m"))
    outcome = await capturing.tier.escalate(
        a_request(body),
        inspected(body),
        keeping(capturing, Action.MASK),
        Aim(capturing.destination),
        replace(done, inspection=inspected(done.body)),
    )
    assert isinstance(outcome, Outcome)
    assert b"Jane Doe" in json.dumps(outcome.body).encode()  # the client has it back
    answer = opened(capturing, tmp_path / "private.pem")
    assert (b"Jane" in answer, b"is in." in answer) == (False, True)


async def test_nothing_is_kept_where_policy_does_not_say_so(capturing: Stage) -> None:
    await ask(capturing, replace(keeping(capturing), keep_answer=False))
    assert kept(capturing) is None
    assert list((capturing.folder / VAULT).glob("*/*.answer")) == []


async def test_nothing_is_kept_without_an_auditor_to_keep_it_for(stage: Stage) -> None:
    await ask(stage, keeping(stage))
    assert kept(stage) is None
    assert not (stage.folder / VAULT).exists()


async def test_vectors_are_not_kept(capturing: Stage, cloud: StandInCloud) -> None:
    vectors = {"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}]}
    cloud.reply = lambda _: Reply(200, json.dumps({**vectors, "model": "m"}).encode())
    await ask(capturing, keeping(capturing), "embeddings")
    assert kept(capturing) is None


@pytest.mark.parametrize("does", Scan)
@pytest.mark.parametrize("said", [SAID, "Jane Doe knows."])
async def test_an_answer_with_a_finding_is_not_kept(
    does: Scan, said: str, capturing: Stage, cloud: StandInCloud
) -> None:
    cloud.reply = lambda _: Reply(200, completion(said, "m"))
    try:
        await ask(capturing, keeping(capturing, scan=does))
    except AnswerWithheld:
        assert said != SAID
    assert (kept(capturing) is None) == (said != SAID)


async def test_a_fault_is_no_answer(capturing: Stage, cloud: StandInCloud) -> None:
    cloud.reply = lambda _: Reply(500, completion(SAID, "m"))
    with pytest.raises(CloudError):
        await ask(capturing, keeping(capturing))
    assert kept(capturing) is None


async def test_the_client_gets_an_answer_that_cannot_be_kept(
    capturing: Stage, cloud: StandInCloud
) -> None:
    def break_vault(_: object) -> Reply:
        """While the question is on its way, the folder of its capture becomes a file."""
        (folder,) = (capturing.folder / VAULT).iterdir()
        folder.rename(capturing.folder / "away")
        folder.write_bytes(b"")
        return Reply(200, completion(SAID, "m"))

    cloud.reply = break_vault
    outcome = await ask(capturing, keeping(capturing))
    assert SAID in json.dumps(outcome.body)
    told = kept(capturing)
    assert isinstance(told, dict)
    assert told["answer"] is None


def test_a_policy_that_keeps_answers_without_a_key_for_them_does_not_start(tmp_path: Path) -> None:
    path = write_policy(tmp_path, None)
    settings = load_settings(
        {"RINGFENCE_POLICY_FILE": str(path), "RINGFENCE_DATA_DIR": str(tmp_path / "data")}
    )
    proxy = Proxy(settings)
    with path.open("a") as file:
        file.write("\nrecord: {train_on_answers: true}\n")
    with pytest.raises(SettingsError, match="RINGFENCE_CAPTURE_KEY_FILE"):
        Proxy(settings)
    with capture_logs() as logs:  # one that runs keeps nothing, and says so
        proxy._keeper.check()
    assert proxy.policy().content.record.train_on_answers
    assert [entry["event"] for entry in logs] == ["answers_not_kept"]


def test_a_candidate_that_keeps_answers_without_a_key_for_them_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_policy(tmp_path, None)
    (tmp_path / "next").mkdir()
    candidate = write_policy(tmp_path / "next", None, [("revision: 1", "revision: 2")])
    with candidate.open("a") as file:
        file.write("\nrecord: {train_on_answers: true}\n")
    env = {"RINGFENCE_POLICY_FILE": str(path), "RINGFENCE_DATA_DIR": str(tmp_path / "data")}
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    proxy = Proxy(load_settings(env))

    until = f"{datetime.now(UTC) + timedelta(days=3):%Y-%m-%d}"
    told = CliRunner().invoke(app, ["rollout", str(candidate), "--share", "5", "--until", until])
    change = proxy._stage.check()
    assert change is not None
    with capture_logs() as logs:
        proxy._staged(change)

    assert told.exit_code == 0
    assert "RINGFENCE_CAPTURE_KEY_FILE" in told.stderr
    assert [entry["event"] for entry in logs] == ["answers_not_kept"]
