"""A statement is signed only if it is true, and nothing in it can be changed and still hold."""

from __future__ import annotations

import asyncio
import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import CliRunner

from audit.cli import app
from audit.errors import AuditError
from audit.evidence import CATEGORIES, Question, collect
from audit.month import read_month
from audit.note import public_bytes, sign, verifier_key
from audit.record import MAX_ITEMS, CoverageRecord, DecisionRecord, EntityRecord, RoleRecord
from audit.replay import stored_heads
from audit.sealer import Sealer
from audit.showing_cli import moment
from audit.statement import CANNOT_PROVE, NotTrue, attest, check_statement, is_statement, rerun
from audit.stores.files import FileStore
from audit.verify import verify
from proxy.types import Category
from tests.audit.test_ledger import ORIGIN, abandon, an_intent, an_outcome, open_ledger
from tests.audit.test_query import a_decision

NOW = datetime.now(UTC)
SINCE, UNTIL = moment(NOW - timedelta(days=1)), moment(NOW + timedelta(days=1))
HEALTH = Question("health", SINCE, UNTIL)

WHOLE = CoverageRecord(3, 2, 1, ())


def decided(*entities: tuple[str, str], coverage: CoverageRecord = WHOLE) -> DecisionRecord:
    found = tuple(
        EntityRecord(name, category, 2, 0.9, (RoleRecord("user", 2, 0.9),))
        for name, category in entities
    )
    return replace(a_decision("billing", "X", "cloud"), coverage=coverage, entities=found)


Egress = tuple[DecisionRecord | None, dict[str, object]]


async def _write(folder: Path, egresses: list[Egress]) -> None:
    """A ledger in which each decision is followed by its egress, as changed."""
    ledger = open_ledger(folder)
    kept = replace(decided(("MEDICAL_CONDITION", "health")), decision_id="dec_" + "f" * 28)
    await ledger.decision(replace(kept, routing=replace(kept.routing, route="local")))
    for number, (decision, change) in enumerate(egresses):
        id_ = f"dec_{number:028x}"
        if decision is not None:
            await ledger.decision(replace(decision, decision_id=id_))
        sent = str(change.pop("sent", "yes"))
        permit = await ledger.intent(replace(an_intent(id_), **change), b"body", ORIGIN)  # type: ignore[arg-type]
        await ledger.outcome(replace(an_outcome(permit), sent=sent))
    await ledger.close()


def a_ledger(folder: Path, *egresses: Egress) -> tuple[Path, Path]:
    asyncio.run(_write(folder, list(egresses)))
    return folder / "ledger", folder / "keys"


CLEAN = decided(("PERSON", "identity"))
SICK = decided(("MEDICAL_CONDITION", "health"), ("PERSON", "identity"))


@pytest.fixture
def clean(tmp_path: Path) -> tuple[Path, Path]:
    return a_ledger(tmp_path, (CLEAN, {}), (decided(), {"region": "us"}))


def test_what_is_true_is_signed_and_holds_offline_and_over_the_ledger(
    clean: tuple[Path, Path],
) -> None:
    ledger, keys = clean
    key = verify(ledger).key
    note = attest(ledger, keys, HEALTH)
    statement = check_statement(note, key)
    assert is_statement(note.decode())
    evidence = statement.content["evidence"]
    assert (evidence["egresses"], evidence["decisions"], evidence["lowest_coverage"]) == (2, 3, 1.0)
    assert evidence["destinations"] == {"eu (eu)": 1, "eu (us)": 1}
    assert evidence["policies"] == {"sha256:" + "0" * 64: 3}
    assert evidence["detectors"] == {"names 1": 2}
    assert statement.content["range"]["records"] == list(stored_heads(ledger))[-1].size
    assert rerun(ledger, statement, key) == []
    later = asyncio.run(_more(ledger.parent))
    assert rerun(later, statement, key) == []  # it is over what was sealed then


async def _more(folder: Path) -> Path:
    ledger = open_ledger(folder)
    await ledger.decision(SICK)
    await ledger.close()
    return folder / "ledger"


@pytest.mark.parametrize(
    ("egress", "question", "ends"),
    [
        ((SICK, {}), HEALTH, "violation"),
        ((SICK, {}), replace(HEALTH, no_egress_of="MEDICAL_CONDITION"), "violation"),
        ((SICK, {}), replace(HEALTH, no_egress_of="financial"), "holds"),
        ((SICK, {"region": "us"}), replace(HEALTH, region="us"), "violation"),
        ((SICK, {}), replace(HEALTH, region="us"), "holds"),
        ((SICK, {"sent": "unknown"}), HEALTH, "violation"),
        ((SICK, {"sent": "no"}), HEALTH, "holds"),
        ((SICK, {"masked": (("MEDICAL_CONDITION", 2),)}), HEALTH, "violation"),
        (
            (SICK, {"masked": (("MEDICAL_CONDITION", 2),)}),
            replace(HEALTH, masked_may_leave=True),
            "holds",
        ),
        (
            (SICK, {"masked": (("MEDICAL_CONDITION", 1),)}),
            replace(HEALTH, masked_may_leave=True),
            "violation",
        ),
        ((None, {}), HEALTH, "undecided"),
        ((decided(coverage=CoverageRecord(3, 2, 0, ())), {}), HEALTH, "undecided"),
        ((decided(coverage=CoverageRecord(3, 2, 1, (("image", 1),))), {}), HEALTH, "undecided"),
    ],
)
def test_one_egress_makes_it_true_or_not(
    tmp_path: Path,
    egress: Egress,
    question: Question,
    ends: str,
) -> None:
    ledger, keys = a_ledger(tmp_path, (egress[0], dict(egress[1])))
    evidence, _ = collect(ledger, question)
    assert {"violation": evidence.violations, "undecided": evidence.undecided}.get(ends, [1])
    assert evidence.holds == (ends == "holds")
    if ends == "holds":
        check_statement(attest(ledger, keys, question), verify(ledger).key)
        return
    with pytest.raises(NotTrue) as caught:
        attest(ledger, keys, question)
    assert caught.value.evidence is not None


async def test_an_egress_in_the_next_chain_of_its_process_knows_its_decision(
    tmp_path: Path,
) -> None:
    """A process that lost its chain goes on in another."""
    one = open_ledger(tmp_path)
    two = open_ledger(tmp_path)
    await one.decision(replace(SICK, decision_id="dec_" + "1" * 28))
    permit = await two.intent(an_intent("dec_" + "1" * 28), b"body", ORIGIN)
    await two.outcome(an_outcome(permit))
    await one.close()
    await two.close()
    evidence, _ = collect(tmp_path / "ledger", HEALTH)
    assert (evidence.violations, evidence.undecided) == ([permit.intent_id], [])
    month = read_month(tmp_path / "ledger", f"{NOW:%Y-%m}")
    assert (month.uninspected, dict(month.ways)) == (0, {"left": 1})


def test_more_kinds_of_entities_than_a_record_lists_are_not_called_clean(tmp_path: Path) -> None:
    many = decided(*((f"KIND_{number}", "identity") for number in range(MAX_ITEMS + 1)))
    ledger, _ = a_ledger(tmp_path, (many, {}))
    evidence, _ = collect(ledger, HEALTH)
    assert (len(evidence.undecided), evidence.holds) == (1, False)


def test_a_mistake_in_writing_is_not_signed(clean: tuple[Path, Path]) -> None:
    for name in ("helth", "MEDICAL_CONDITON"):
        with pytest.raises(NotTrue, match="no entity"):
            attest(*clean, replace(HEALTH, no_egress_of=name))
    assert attest(*clean, replace(HEALTH, no_egress_of="IBAN_CODE"), unseen=True)
    assert {category.value for category in Category} == CATEGORIES


def test_says_for_which_times_it_cannot_speak(tmp_path: Path) -> None:
    ledger, keys = a_ledger(tmp_path, (CLEAN, {}))
    end = NOW + timedelta(hours=3)
    Sealer(FileStore(ledger, keys), "ringfence/egress", lambda: end).seal([])
    evidence, head = collect(ledger, HEALTH)
    whys = [gap["why"].split(":")[0] for gap in evidence.gaps]
    assert whys == ["the ledger begins later", "no checkpoint", "not sealed yet"]
    assert (evidence.gaps[0]["from"], evidence.gaps[2]["until"]) == (SINCE, UNTIL)
    assert evidence.gaps[1]["until"] == head.time


def test_a_time_of_which_the_ledger_says_nothing_is_not_called_clean(tmp_path: Path) -> None:
    ledger, keys = a_ledger(tmp_path, (CLEAN, {}))
    end = NOW + timedelta(hours=3)
    Sealer(FileStore(ledger, keys), "ringfence/egress", lambda: end).seal([])
    hour = timedelta(hours=1)
    for since, until in (
        ("2020-01-01T00:00:00.000000Z", SINCE),  # before it began
        (moment(NOW + hour), moment(NOW + 2 * hour)),  # nothing ran
        (moment(NOW + 4 * hour), moment(NOW + 5 * hour)),  # to come
        (moment(NOW + hour), moment(NOW + 5 * hour)),  # nothing ran, then to come
    ):
        with pytest.raises(NotTrue, match="does not speak"):
            attest(ledger, keys, replace(HEALTH, since=since, until=until))
    assert attest(ledger, keys, HEALTH)


def test_unsealed_records_are_not_spoken_for(tmp_path: Path) -> None:
    async def leave_one() -> None:
        ledger = open_ledger(tmp_path)
        await ledger.intent(an_intent(), b"body", ORIGIN)
        abandon(ledger)

    asyncio.run(leave_one())
    evidence, head = collect(tmp_path / "ledger", HEALTH)
    assert (evidence.egresses, head.size) == (0, 1)
    assert evidence.gaps[-1]["why"] == "not sealed yet"


def test_no_changed_character_of_a_statement_holds(clean: tuple[Path, Path]) -> None:
    key = verify(clean[0]).key
    text = attest(*clean, HEALTH).decode()
    step = max(1, len(text) // 500)
    for place in range(0, len(text), step):
        other = "0" if text[place] != "0" else "1"
        changed = text[:place] + other + text[place + 1 :]
        with pytest.raises(AuditError):
            check_statement(changed.encode(), key)


def test_a_statement_under_another_key_or_of_another_form_is_refused(
    clean: tuple[Path, Path],
) -> None:
    key = verify(clean[0]).key
    note = attest(*clean, HEALTH).decode()
    stranger = Ed25519PrivateKey.generate()
    name = "ringfence/egress"
    signed = note.rpartition("\n\n")[0] + "\n"
    with pytest.raises(AuditError):
        check_statement(sign(signed, name, stranger), key)
    with pytest.raises(AuditError):
        check_statement(note.encode(), verifier_key(name, public_bytes(stranger)))
    checkpoint = next(clean[0].glob("tlog/heads/*/*")).read_bytes()
    for other in (
        b"",
        b"x",
        checkpoint,
        f"ringfence-statement/v1 {name}\nepoch 0\n{{}}\n\n".encode(),
    ):
        with pytest.raises(AuditError):
            check_statement(other, key)


def test_what_the_keys_holder_signed_falsely_shows_over_the_ledger(
    clean: tuple[Path, Path],
) -> None:
    """The key's holder can sign what is not so; whoever has the ledger sees it."""
    ledger, keys = clean
    key = verify(ledger).key
    private = Ed25519PrivateKey.from_private_bytes((keys / "seal-000000.key").read_bytes())
    heading, epoch, body = (
        attest(ledger, keys, HEALTH).decode().rpartition("\n\n")[0].split("\n", 2)
    )
    content = json.loads(body)
    content["evidence"]["egresses"] = 0

    def signed(content: dict[str, object]) -> bytes:
        body = json.dumps(content, indent=1)
        return sign(f"{heading}\n{epoch}\n{body}\n", "ringfence/egress", private)

    statement = check_statement(signed(content), key)
    assert rerun(ledger, statement, key) == ["evidence differs"]
    changes: tuple[dict[str, object], ...] = (
        {"holds": False},
        {"claim": "All is well."},
        {"cannot_prove": []},
        {"range": {**content["range"], "records": 1}},
        {"question": {**content["question"], "more": 1}},
    )
    for change in changes:
        with pytest.raises(AuditError):
            check_statement(signed({**content, **change}), key)


def test_a_changed_ledger_bears_no_statement(clean: tuple[Path, Path], tmp_path: Path) -> None:
    ledger, keys = clean
    key = verify(ledger).key
    statement = check_statement(attest(ledger, keys, HEALTH), key)
    copy = Path(shutil.copytree(ledger, tmp_path / "copy"))
    segment = next((copy / "wal").rglob("*.jsonl"))
    segment.write_bytes(segment.read_bytes().replace(b'"PERSON"', b'"PARSON"'))
    with pytest.raises(NotTrue, match="changed"):
        attest(copy, keys, HEALTH)
    assert rerun(copy, statement, key)


def test_the_commands_sign_refuse_and_check(tmp_path: Path) -> None:
    ledger, keys = a_ledger(tmp_path, (SICK, {}))
    key = verify(ledger).key
    runner = CliRunner()
    times = ["--from", f"{NOW:%Y-%m-%d}", "--to", f"{NOW + timedelta(days=1):%Y-%m-%d}"]
    places = [str(ledger), "--keys", str(keys), *times]
    file = tmp_path / "statement"
    done = runner.invoke(app, ["attest", *places, "--no-egress-of", "financial", "-o", str(file)])
    assert (done.exit_code, "TRUE" in done.stderr) == (0, True)
    checked = runner.invoke(app, ["check", str(file), "--key", key, "--ledger", str(ledger)])
    assert (checked.exit_code, "the ledger says the same" in checked.stderr) == (0, True)
    assert "no request in which financial was found left" in checked.stdout
    for limit in CANNOT_PROVE:
        assert limit in checked.stdout
    refused = runner.invoke(app, ["attest", *places, "--no-egress-of", "health"])
    (violation,) = collect(ledger, HEALTH)[0].violations
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert violation in refused.stderr
    file.write_text(file.read_text().replace("financial", "health"))
    assert runner.invoke(app, ["check", str(file), "--key", key]).exit_code == 1
    assert runner.invoke(app, ["attest", *places]).exit_code == 2
