"""One record is proved without the others; nothing in a proof can be changed and still hold."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import CliRunner

from audit.chain import read_line
from audit.checkpoint import read_head, text_of
from audit.cli import app
from audit.errors import AuditError
from audit.note import public_bytes, sign, verifier_key
from audit.proof import Proof, prove_record
from audit.replay import WAL
from audit.segments import chain_lines
from audit.verify import verify
from tests.audit.test_ledger import ORIGIN, abandon, an_intent, open_ledger
from tests.audit.test_tampering import _fill


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two closed chains, sealed by many checkpoints."""
    folder = tmp_path_factory.mktemp("proved")
    asyncio.run(_fill(folder, 7, crash=False))
    asyncio.run(_fill(folder, 5, crash=False))
    return folder / "ledger"


@pytest.fixture(scope="module")
def key(ledger: Path) -> str:
    return verify(ledger).key


def lines(ledger: Path) -> list[bytes]:
    return [line for folder in sorted((ledger / WAL).iterdir()) for line in chain_lines(folder)]


def an_id(ledger: Path, place: int = 5) -> str:
    return str(read_line(lines(ledger)[place])["id"])


def test_every_record_is_proved_without_the_others(ledger: Path, key: str) -> None:
    places = set()
    for line in lines(ledger):
        record = read_line(line)
        proof = Proof.from_json(prove_record(ledger, str(record["id"])).to_json())
        proven = proof.check(key)
        assert proven.record == record
        others = [one for one in lines(ledger) if one != line]
        assert not any(one.decode() in proof.to_json() for one in others)
        places.add(proven.index)
    assert places == set(range(len(lines(ledger))))


def test_no_changed_character_of_a_proof_holds(ledger: Path, key: str) -> None:
    text = prove_record(ledger, an_id(ledger)).to_json()
    honest = Proof.from_json(text).check(key)
    step = max(1, len(text) // 700)
    for place in range(0, len(text), step):
        other = "0" if text[place] != "0" else "1"
        changed = text[:place] + other + text[place + 1 :]
        try:
            proven = Proof.from_json(changed).check(key)
        except AuditError:
            continue
        # What stands around the members (an indent, the case of hex) may change, the word not.
        assert proven == honest, (place, text[max(0, place - 20) : place + 20])


def test_another_key_another_record_and_another_place_are_refused(ledger: Path, key: str) -> None:
    proof = prove_record(ledger, an_id(ledger))
    other = prove_record(ledger, an_id(ledger, 6))
    stranger = Ed25519PrivateKey.generate()
    name = read_head(text_of(proof.checkpoint.encode())).origin
    forged_text = text_of(proof.checkpoint.encode())
    forged = sign(forged_text, name, stranger).decode()
    raw = json.loads(proof.to_json())
    changes: tuple[dict[str, object], ...] = (
        {"record": other.record},
        {"index": proof.index + 1},
        {"index": -1},
        {"size": proof.size + 1},
        {"path": raw["path"][:-1]},
        {"path": [*raw["path"], "00" * 32]},
        {"path": ["zz"]},
        {"checkpoint": forged},
        {"keys": []},
        {"keys": raw["keys"] * 2},
    )
    for change in changes:
        with pytest.raises(AuditError):
            Proof.from_json(json.dumps({**raw, **change})).check(key)
    with pytest.raises(AuditError):
        proof.check(verifier_key(name, public_bytes(stranger)))


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", "nul", '{"v":1}', "[" * 5000],
    ids=["no", "li", "em", "ju", "v", "deep"],
)
def test_what_is_no_proof_is_refused(text: str) -> None:
    with pytest.raises(AuditError, match="known form"):
        Proof.from_json(text)


async def test_a_record_that_is_not_sealed_has_no_proof_yet(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    await ledger.intent(an_intent(), b"body", ORIGIN)
    abandon(ledger)
    newest = str(read_line(lines(tmp_path / "ledger")[-1])["id"])
    with pytest.raises(AuditError, match="not sealed yet"):
        prove_record(tmp_path / "ledger", newest)


def test_the_commands_prove_check_and_refuse(ledger: Path, key: str, tmp_path: Path) -> None:
    runner = CliRunner()
    done = runner.invoke(app, ["prove", an_id(ledger), str(ledger)])
    assert done.exit_code == 0
    file = tmp_path / "proof.json"
    file.write_text(done.stdout)
    checked = runner.invoke(app, ["check", str(file), "--key", key])
    assert checked.exit_code == 0
    assert json.loads(checked.stdout)["id"] == an_id(ledger)
    assert "PROVEN" in checked.stderr
    file.write_text(done.stdout.replace('"index": ', '"index": 1'))
    refused = runner.invoke(app, ["check", str(file), "--key", key])
    assert (refused.exit_code, "NOT PROVEN" in refused.stderr) == (1, True)
    assert runner.invoke(app, ["prove", "dec_none", str(ledger)]).exit_code == 1
    assert runner.invoke(app, ["prove", "dec_none", str(tmp_path / "no")]).exit_code == 1


def test_a_changed_ledger_gives_no_proof(ledger: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(ledger, tmp_path / "copy"))
    wanted = an_id(copy)
    segment = sorted((copy / WAL).rglob("*.jsonl"))[0]
    stored = segment.read_bytes().split(b"\n")
    segment.write_bytes(b"\n".join([stored[0].replace(b"opened", b"0pened"), *stored[1:]]))
    with pytest.raises(AuditError):
        prove_record(copy, wanted)
