"""What people do to a ledger is on its record: reviews, digest keys that are destroyed."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from audit import keys
from audit.acts import UnknownRecord, destroy_digest_key, review, unreviewed
from audit.chain import read_line
from audit.cli import app
from audit.errors import LedgerUnwritable
from audit.keys import FolderKeys, KeyKept, load_or_make_key, present_key_name
from audit.ledger import keyed_digest
from audit.query import Filter, query
from audit.verify import verify
from tests.audit.test_ledger import ORIGIN, abandon, an_intent, lines_of, open_ledger
from tests.harness import SCHEMA

OLD = "hk-2025-11"


async def _lose_one(folder: Path) -> None:
    """A ledger with a crash behind it: a recovery, and an intent that nobody knows the end of."""
    lost = open_ledger(folder)
    await lost.intent(an_intent(), b"body", ORIGIN)
    abandon(lost)
    await open_ledger(folder).close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    asyncio.run(_lose_one(tmp_path))
    load_or_make_key(tmp_path / "keys" / f"{OLD}.key")
    return tmp_path


def run(folder: Path, *arguments: str) -> tuple[int, str]:
    places = ["--ledger", str(folder / "ledger")]
    if arguments[0] == "destroy-key" or len(arguments) > 1:
        places += ["--keys", str(folder / "keys")]
    done = CliRunner().invoke(app, [*arguments, *places])
    return done.exit_code, done.output


def test_a_destroyed_key_is_gone_for_good_and_that_is_on_the_record(folder: Path) -> None:
    path = folder / "keys" / f"{OLD}.key"
    secret = path.read_bytes()
    held = os.open(path, os.O_RDONLY)  # who still has the file open finds nothing in it
    assert run(folder, "destroy-key", OLD, "--by", "jane", "--yes")[0] == 0
    assert os.pread(held, 32, 0) == bytes(32)
    os.close(held)
    assert not path.exists()
    assert not any(secret in file.read_bytes() for file in folder.rglob("*") if file.is_file())
    (row,) = query(folder / "ledger", Filter(kind="hmac_key.destroyed"))
    assert row["detail"] == f'{{"key":"{OLD}","by":"jane"}}'
    assert verify(folder / "ledger").is_sound
    for line in lines_of(folder):
        SCHEMA.validate(read_line(line))


def test_no_key_is_made_anew_under_a_destroyed_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    destroy_digest_key(folder / "ledger", folder / "keys", OLD, "jane")
    monkeypatch.setattr("audit.ledger.present_key_name", lambda: OLD)  # a clock set back
    with pytest.raises(LedgerUnwritable, match="destroyed"):
        keyed_digest(FolderKeys(folder / "keys"), b"body")


def test_a_destruction_that_was_not_recorded_is_recorded_when_it_is_done_again(
    folder: Path,
) -> None:
    keys.destroy_key(folder / "keys", OLD)
    destroy_digest_key(folder / "ledger", folder / "keys", OLD, "jane")
    assert len(query(folder / "ledger", Filter(kind="hmac_key.destroyed"))) == 1


@pytest.mark.parametrize("name", ["hk-2024-01", "hk-9999-12", "hk-2025-13", "seal-000000", "../x"])
def test_refuses_a_key_that_is_in_use_unknown_or_none(folder: Path, name: str) -> None:
    for one in (name, present_key_name()):
        with pytest.raises(KeyKept):
            destroy_digest_key(folder / "ledger", folder / "keys", one, "jane")
    assert (folder / "keys" / f"{present_key_name()}.key").exists()
    assert query(folder / "ledger", Filter(kind="hmac_key.destroyed")) == []
    code, said = run(folder, "destroy-key", name, "--by", "jane", "--yes")
    assert (code, "Not done" in said) == (1, True)


def test_what_waits_is_listed_until_somebody_signs_it_off(folder: Path) -> None:
    waiting = unreviewed(folder / "ledger")
    assert [row["kind"] for row in waiting] == ["egress.intent", "recovery", "egress.outcome"]
    code, said = run(folder, "review")
    assert (code, "3 wait" in said) == (0, True)
    first, *rest = (str(row["id"]) for row in waiting)
    code, said = run(folder, "review", first, first, "--by", "jane", "--ticket", "SEC-12")
    assert (code, said.strip()) == (0, "reviewed: 1")
    assert [row["id"] for row in unreviewed(folder / "ledger")] == rest
    (row,) = query(folder / "ledger", Filter(kind="review"))
    assert row["detail"] == f'{{"of":"{first}","by":"jane","verdict":"fine","ticket":"SEC-12"}}'
    review(folder / "ledger", folder / "keys", rest, {"by": "joe", "verdict": "follow_up"})
    assert unreviewed(folder / "ledger") == []
    assert verify(folder / "ledger").is_sound


def test_each_crash_is_signed_off_by_itself(tmp_path: Path) -> None:
    """Chains of one length end alike; the ids of what recovery wrote into them do not."""
    for _ in range(2):
        asyncio.run(_lose_one(tmp_path))
    ids = [str(row["id"]) for row in unreviewed(tmp_path / "ledger")]
    assert len(ids) == len(set(ids)) == 6
    review(tmp_path / "ledger", tmp_path / "keys", ids[:3], {"by": "jane"})
    assert [row["id"] for row in unreviewed(tmp_path / "ledger")] == ids[3:]


def test_a_record_that_is_not_there_is_not_signed_off(folder: Path) -> None:
    with pytest.raises(UnknownRecord):
        review(folder / "ledger", folder / "keys", ["rec_none"], {"by": "jane"})
    assert run(folder, "review", "rec_none", "--by", "jane")[0] == 1
    assert run(folder, "review", "rec_none")[0] == 2  # nobody looked
    assert query(folder / "ledger", Filter(kind="review")) == []


@pytest.mark.parametrize("by", ["Jörg", "card 4111111111111111", "a\nb", "x" * 200])
def test_who_could_not_be_recorded_by_name_does_nothing(folder: Path, by: str) -> None:
    waiting = unreviewed(folder / "ledger")
    for act in (
        ("destroy-key", OLD, "--yes", "--by", by),
        ("review", str(waiting[0]["id"]), "--by", by),
    ):
        code, said = run(folder, *act)
        assert (code, "staff number" in said) == (1, True)
    assert (folder / "keys" / f"{OLD}.key").exists()
    assert unreviewed(folder / "ledger") == waiting


def test_an_act_needs_a_ledger(tmp_path: Path) -> None:
    assert run(tmp_path, "review")[0] == 1
    load_or_make_key(tmp_path / "keys" / f"{OLD}.key")
    code, said = run(tmp_path, "destroy-key", OLD, "--by", "jane", "--yes")
    assert (code, "not on the record" in said) == (1, True)
