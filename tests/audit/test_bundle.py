"""A bundle is checked with the first public key alone; nothing in it can be changed and hold."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import CliRunner

from audit.bundle import MANIFEST, RECORDS, check_bundle, make_bundle
from audit.chain import read_line
from audit.cli import app
from audit.errors import AuditError
from audit.note import public_bytes, verifier_key
from audit.query import Filter, query
from audit.replay import stored_heads
from audit.showing_cli import moment
from audit.verify import verify
from tests.audit.test_tampering import _fill

NOW = datetime.now(UTC)
SINCE, UNTIL = moment(NOW - timedelta(days=1)), moment(NOW + timedelta(days=1))


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundled")
    for number in (6, 4, 5):
        asyncio.run(_fill(folder, number, crash=False))
    return folder / "ledger"


@pytest.fixture(scope="module")
def key(ledger: Path) -> str:
    return verify(ledger).key


@pytest.fixture(scope="module")
def whole(ledger: Path) -> bytes:
    return make_bundle(ledger, ledger.parent / "keys", SINCE, UNTIL)


def members_of(bundle: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(bundle)) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def zipped(members: dict[str, bytes]) -> io.BytesIO:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as bundle:
        for name, data in members.items():
            bundle.writestr(name, data)
    return io.BytesIO(out.getvalue())


def test_a_bundle_of_all_holds_every_sealed_record(ledger: Path, whole: bytes, key: str) -> None:
    said = check_bundle(io.BytesIO(whole), key)
    assert said.num_records == list(stored_heads(ledger))[-1].size
    ids = {read_line(line)["id"] for line in members_of(whole)[RECORDS].splitlines()}
    assert ids == {row["id"] for row in query(ledger, Filter())}
    assert whole == make_bundle(ledger, ledger.parent / "keys", SINCE, UNTIL)


def test_any_run_of_checkpoints_makes_a_bundle_that_holds(ledger: Path, key: str) -> None:
    heads = list(stored_heads(ledger))
    ends = [head.time for head in heads[1::3]]
    sizes: list[int] = []
    for since, until in zip([SINCE, *ends], [*ends, UNTIL], strict=True):
        bundle = make_bundle(ledger, ledger.parent / "keys", since, until)
        said = check_bundle(io.BytesIO(bundle), key)
        assert said.content["first_index"] == sum(sizes)
        sizes.append(said.num_records)
    assert sum(sizes) == heads[-1].size
    assert len(sizes) > 2


def test_nothing_in_a_bundle_can_be_changed_left_out_or_added(
    ledger: Path, whole: bytes, key: str
) -> None:
    heads = list(stored_heads(ledger))
    part = make_bundle(ledger, ledger.parent / "keys", heads[3].time, UNTIL)
    for bundle in (whole, part):
        members = members_of(bundle)
        check_bundle(zipped(members), key)
        for name, data in members.items():
            for at in range(0, len(data), max(1, len(data) // 40)):
                changed = bytes([*data[:at], data[at] ^ 1, *data[at + 1 :]])
                with pytest.raises(AuditError):
                    check_bundle(zipped({**members, name: changed}), key)
            with pytest.raises(AuditError):
                check_bundle(zipped({k: v for k, v in members.items() if k != name}), key)
        with pytest.raises(AuditError):
            check_bundle(zipped({**members, "more.txt": b""}), key)


def test_what_the_keys_holder_signs_falsely_does_not_hold_either(
    ledger: Path, whole: bytes, key: str
) -> None:
    """Whoever can sign the list still cannot change, drop, swap or move records."""
    from hashlib import sha256

    from audit.note import sign

    members = members_of(whole)
    (secret,) = (ledger.parent / "keys").glob("seal-*.key")
    private = Ed25519PrivateKey.from_private_bytes(secret.read_bytes())
    heading, epoch, body = members[MANIFEST].decode().rpartition("\n\n")[0].split("\n", 2)

    def signed(records: bytes, **change: object) -> io.BytesIO:
        content = {**json.loads(body), "records": records.count(b"\n"), **change}
        content["files"][RECORDS] = sha256(records).hexdigest()
        text = f"{heading}\n{epoch}\n{json.dumps(content, indent=1)}\n"
        note = sign(text, "ringfence/egress", private)
        return zipped({**members, RECORDS: records, MANIFEST: note})

    lines = members[RECORDS].splitlines(keepends=True)
    check_bundle(signed(b"".join(lines)), key)
    for forged in (
        lines[1:],
        lines[:-1],
        [lines[1], lines[0], *lines[2:]],
        [*lines, lines[-1]],
        [lines[0].replace(b"chain.opened", b"chain.0pened"), *lines[1:]],
    ):
        with pytest.raises(AuditError):
            check_bundle(signed(b"".join(forged)), key)
    for change in (
        {"first_index": 1, "edge": ["00" * 32]},
        {"first_index": 2**40, "edge": []},
        {"before": 0},
        {"before": 999},
        {"checkpoint": 0},
        {"checkpoint": 999},
        {"edge": ["zz"]},
    ):
        with pytest.raises(AuditError):
            check_bundle(signed(b"".join(lines), **change), key)


def test_another_key_and_what_is_no_bundle_are_refused(whole: bytes, key: str) -> None:
    stranger = verifier_key("ringfence/egress", public_bytes(Ed25519PrivateKey.generate()))
    with pytest.raises(AuditError):
        check_bundle(io.BytesIO(whole), stranger)
    for other in (b"", b"PK", b"x" * 100, whole[: len(whole) // 2]):
        with pytest.raises(AuditError):
            check_bundle(io.BytesIO(other), key)
    assert check_bundle(io.BytesIO(whole), None).key == key


def test_a_changed_ledger_and_an_empty_time_make_no_bundle(ledger: Path, tmp_path: Path) -> None:
    with pytest.raises(AuditError, match="seals anything"):
        make_bundle(ledger, ledger.parent / "keys", UNTIL, moment(NOW + timedelta(days=2)))
    copy = Path(shutil.copytree(ledger, tmp_path / "copy"))
    segment = next((copy / "wal").rglob("*.jsonl"))
    segment.write_bytes(segment.read_bytes().replace(b"chain.opened", b"chain.0pened"))
    with pytest.raises(AuditError, match="changed"):
        make_bundle(copy, ledger.parent / "keys", SINCE, UNTIL)


def test_a_bundle_that_is_damaged_within_a_file_is_none(whole: bytes, key: str) -> None:
    with zipfile.ZipFile(io.BytesIO(whole)) as bundle:
        info = bundle.getinfo(RECORDS)
    begins = info.header_offset + 30 + len(info.filename)  # behind the header of the file
    for place in range(begins, begins + info.compress_size, 61):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        with pytest.raises(AuditError):
            check_bundle(io.BytesIO(bytes(damaged)), key)


def test_the_commands_export_on_the_record_and_verify_offline(
    ledger: Path, key: str, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(ledger.parent, tmp_path / "folder"))
    file, runner = tmp_path / "bundle.zip", CliRunner()
    times = ["--from", SINCE[:10], "--to", UNTIL[:10]]
    places = [str(folder / "ledger"), "--keys", str(folder / "keys"), *times, "-o", str(file)]
    done = runner.invoke(app, ["export", *places, "--by", "jane"])
    assert done.exit_code == 0, done.output
    (row,) = query(folder / "ledger", Filter(kind="export"))
    assert json.loads(row["detail"])["by"] == "jane"
    shutil.rmtree(folder)
    checked = runner.invoke(app, ["verify", str(file), "--key", key])
    assert (checked.exit_code, "WHOLE" in checked.stdout) == (0, True)
    unkeyed = runner.invoke(app, ["verify", str(file)])
    assert (unkeyed.exit_code, "who made it" in unkeyed.stdout) == (0, True)
    members = members_of(file.read_bytes())
    members[RECORDS] = members[RECORDS].replace(b'"v":1', b'"v":2', 1)
    file.write_bytes(zipped(members).getvalue())
    assert runner.invoke(app, ["verify", str(file), "--key", key]).exit_code == 1
    assert runner.invoke(app, ["export", *places]).exit_code == 2  # nobody said who
