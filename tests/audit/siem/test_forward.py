"""The copy for a SIEM: complete, at least once, resumed, byte for byte, out of the way."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import socket
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from audit.checkpoint import head_path, newest_index
from audit.cli import app
from audit.errors import AuditError
from audit.ledger import Ledger
from audit.siem.forward import BATCH, Cursor, Forwarder, Lag, read_cursor
from audit.siem.source import FileSource, Unreadable, open_source
from audit.siem.wires import BadDestination, Wire, WireDown, open_wire
from audit.verify import verify
from tests.audit.siem.receivers import HttpReceiver, StreamReceiver, a_certificate, serving
from tests.audit.stores.conftest import database as database
from tests.audit.stores.database import Database
from tests.audit.stores.test_postgres import a_closed_ledger
from tests.audit.test_ledger import ORIGIN, an_intent, an_outcome, lines_of, open_ledger


async def fill(folder: Path, num_exchanges: int) -> None:
    ledger = open_ledger(folder)
    await asyncio.gather(*(_exchange(ledger) for _ in range(num_exchanges)))
    ledger._seal_thread.seal_once()
    await _exchange(ledger)
    await ledger.close()


async def _exchange(ledger: Ledger) -> None:
    permit = await ledger.intent(an_intent(), b"body", ORIGIN)
    await ledger.outcome(an_outcome(permit))


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """Two chains, some checkpoints with few records and one with more than a batch."""
    asyncio.run(fill(tmp_path, 2))
    asyncio.run(fill(tmp_path, BATCH))
    return tmp_path / "ledger"


def forwarder(ledger: Path, wire: Wire, told: list[str] | None = None) -> Forwarder:
    def tell(what: str, _: Lag) -> None:
        if told is not None:
            told.append(what)

    return Forwarder(FileSource(ledger), wire, ledger.parent / "cursor.json", tell)


def records_of(texts: list[bytes]) -> list[bytes]:
    return [text for text in texts if b'"kind": "checkpoint"' not in text]


def notes_of(texts: list[bytes]) -> list[str]:
    return [json.loads(text)["note"] for text in texts if b'"kind": "checkpoint"' in text]


def lines_taken(receiver: HttpReceiver) -> list[bytes]:
    return b"".join(receiver.taken).splitlines()


def test_a_webhook_gets_every_record_byte_for_byte_and_every_checkpoint(ledger: Path) -> None:
    with serving(HttpReceiver()) as receiver:
        forwarder(ledger, open_wire(f"http://{receiver.place}/in?tenant=1")).run(once=True)
    taken = lines_taken(receiver)
    assert sorted(records_of(taken)) == sorted(lines_of(ledger.parent))
    notes = notes_of(taken)
    assert len(notes) == newest_index(ledger) + 1
    assert verify(ledger, outside_head=notes[-1].encode()).is_sound
    assert max(body.count(b"\n") for body in receiver.taken) <= BATCH


def test_what_an_unwilling_receiver_refused_is_sent_again_and_nothing_is_lost(
    ledger: Path,
) -> None:
    told: list[str] = []
    with serving(HttpReceiver(503, 429, 200, 500, 200)) as receiver:
        sender = forwarder(ledger, open_wire(f"http://{receiver.place}"), told)
        for _ in range(20):
            try:
                sender.run(once=True)
                break
            except WireDown as error:
                told.append(str(error))
    assert sorted(records_of(lines_taken(receiver))) == sorted(lines_of(ledger.parent))
    assert told == ["HTTP 503", "HTTP 429", "HTTP 500", "forwarded"]


def test_goes_on_where_it_stopped_after_a_restart(ledger: Path) -> None:
    with serving(HttpReceiver(200, 200, 500)) as receiver:
        with pytest.raises(WireDown):
            forwarder(ledger, open_wire(f"http://{receiver.place}")).run(once=True)
        receiver.statuses = [200]
        forwarder(ledger, open_wire(f"http://{receiver.place}")).run(once=True)
        num_posts = receiver.num_posts
        forwarder(ledger, open_wire(f"http://{receiver.place}")).run(once=True)
        assert receiver.num_posts == num_posts
    assert sorted(records_of(lines_taken(receiver))) == sorted(lines_of(ledger.parent))


def test_a_batch_that_was_taken_before_a_crash_is_sent_twice_not_never(ledger: Path) -> None:
    with serving(HttpReceiver()) as receiver:
        sender = forwarder(ledger, open_wire(f"http://{receiver.place}"))
        cursor_file, sender._file = sender._file, ledger / "no" / "folder" / "x"
        (ledger / "no").touch()
        with pytest.raises(OSError, match=r"Not a directory|exists"):
            sender.run(once=True)
        sender._file = cursor_file
        sender.run(once=True)
    taken = records_of(lines_taken(receiver))
    assert set(taken) == set(lines_of(ledger.parent))
    assert len(taken) > len(set(taken))


def test_records_that_are_not_sealed_wait(tmp_path: Path) -> None:
    async def run() -> list[bytes]:
        opened = open_ledger(tmp_path)
        await opened.event("config", {"setting": "value"})
        with serving(HttpReceiver()) as receiver:
            wire = open_wire(f"http://{receiver.place}")
            await asyncio.to_thread(lambda: forwarder(tmp_path / "ledger", wire).run(once=True))
        await opened.close()
        return records_of(lines_taken(receiver))

    (only,) = asyncio.run(run())
    assert b"chain.opened" in only


def test_redirects_are_not_followed(ledger: Path) -> None:
    with serving(HttpReceiver(302)) as receiver:
        with pytest.raises(WireDown, match="302"):
            forwarder(ledger, open_wire(f"http://{receiver.place}")).run(once=True)
    assert receiver.num_posts == 1


SYSLOG = re.compile(rb"<(\d+)>1 (\S+) (\S+) ringfence (\S+) (\S+) - (\{.*\})")


@pytest.mark.parametrize("is_tls", [False, True])
def test_syslog_messages_are_counted_and_hold_the_line(
    ledger: Path, tmp_path: Path, is_tls: bool
) -> None:
    context, trusted = a_certificate(tmp_path) if is_tls else (None, None)
    with serving(StreamReceiver(context)) as receiver:
        scheme = "syslog+tls" if is_tls else "syslog+tcp"
        wire = open_wire(f"{scheme}://127.0.0.1:{receiver.server_address[1]}", trusted)
        forwarder(ledger, wire).run(once=True)
        wire.close()
    matches = [SYSLOG.fullmatch(message) for message in receiver.taken]
    texts = [match[6] for match in matches if match]
    assert len(texts) == len(receiver.taken)
    assert sorted(records_of(texts)) == sorted(lines_of(ledger.parent))
    assert {match[1] for match in matches if match} == {b"110"}


def test_a_receiver_that_is_not_trusted_gets_nothing(ledger: Path, tmp_path: Path) -> None:
    context, _ = a_certificate(tmp_path)
    with serving(StreamReceiver(context)) as receiver:
        wire = open_wire(f"syslog+tls://127.0.0.1:{receiver.server_address[1]}")
        with pytest.raises(WireDown, match="SSLCertVerificationError"):
            forwarder(ledger, wire).run(once=True)
    assert receiver.taken == []


def test_a_stream_that_the_receiver_closed_is_opened_anew(ledger: Path) -> None:
    with serving(StreamReceiver()) as receiver:
        wire = open_wire(f"syslog+tcp://127.0.0.1:{receiver.server_address[1]}")
        sender = forwarder(ledger, wire)
        sender._forward(0)
        receiver.wait_for(sender.cursor.num_sent)
        for connection in receiver.connections:
            connection.shutdown(socket.SHUT_RDWR)
        with pytest.raises(WireDown):
            sender.run(once=True)
        sender.run(once=True)
        wire.close()
    texts = [match[6] for message in receiver.taken if (match := SYSLOG.fullmatch(message))]
    assert set(records_of(texts)) == set(lines_of(ledger.parent))


def test_datagrams_are_one_message_each(tmp_path: Path) -> None:
    asyncio.run(fill(tmp_path, 1))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(5)
        wire = open_wire(f"syslog+udp://127.0.0.1:{receiver.getsockname()[1]}")
        forwarder(tmp_path / "ledger", wire).run(once=True)
        num_items = len(lines_of(tmp_path)) + newest_index(tmp_path / "ledger") + 1
        taken = [receiver.recv(70_000) for _ in range(num_items)]
    texts = [match[6] for message in taken if (match := SYSLOG.fullmatch(message))]
    assert sorted(records_of(texts)) == sorted(lines_of(tmp_path))


def test_otlp_log_records_hold_the_line_and_refused_ones_are_counted(ledger: Path) -> None:
    answer = b'{"partialSuccess": {"rejectedLogRecords": "2"}}'
    with serving(HttpReceiver(answer=answer)) as receiver:
        sender = forwarder(ledger, open_wire(f"otlp+http://{receiver.place}", None, "Bearer x"))
        sender.run(once=True)
    logs = [
        record
        for body in receiver.taken
        for record in json.loads(body)["resourceLogs"][0]["scopeLogs"][0]["logRecords"]
    ]
    texts = [record["body"]["stringValue"].encode() for record in logs]
    assert sorted(records_of(texts)) == sorted(lines_of(ledger.parent))
    assert all(record["timeUnixNano"].isdigit() for record in logs)
    assert sender.cursor.num_refused == 2 * len(receiver.taken)
    assert {headers["Authorization"] for headers in receiver.headers} == {"Bearer x"}


def test_the_lag_is_what_was_not_forwarded(ledger: Path) -> None:
    with serving(HttpReceiver()) as receiver:
        sender = forwarder(ledger, open_wire(f"http://{receiver.place}"))
        assert sender.lag().num_checkpoints == newest_index(ledger) + 1
        sender.run(once=True)
        assert sender.lag() == Lag(0, 0.0)


def test_a_dead_destination_is_tried_again_until_stopped(ledger: Path) -> None:
    told: list[str] = []
    sender = forwarder(ledger, open_wire("http://127.0.0.1:1/"))

    def tell(what: str, lag: Lag) -> None:
        told.append(f"{what} {lag.num_checkpoints}")
        sender.stop()

    sender._tell = tell
    sender.run()
    assert told == [f"waits: the destination: ConnectionRefusedError {newest_index(ledger) + 1}"]


def test_a_ledger_older_than_its_copy_or_with_a_hole_is_said(ledger: Path) -> None:
    wire = open_wire("http://127.0.0.1:1/")
    (ledger.parent / "cursor.json").write_text('{"next_index": 99}')
    with pytest.raises(Unreadable, match="older than its copy"):
        forwarder(ledger, wire).run(once=True)
    (ledger.parent / "cursor.json").write_text("no cursor")
    with pytest.raises(Unreadable, match="no cursor"):
        read_cursor(ledger.parent / "cursor.json")
    (ledger.parent / "cursor.json").unlink()
    for path in (ledger / "wal").rglob("*.jsonl"):
        path.unlink()
    with pytest.raises(Unreadable, match="missing"):
        forwarder(ledger, wire).run(once=True)
    head_path(ledger, 0).write_bytes(b"no note")
    with pytest.raises(AuditError):
        forwarder(ledger, wire).run(once=True)


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("kind", "start - \n<110>1 - - - - - - {}"),
        ("chain", "x y"),
        ("time", "2026-99-99"),
        ("id", "rec_1]"),
        ("kind", None),
    ],
)
def test_a_record_that_would_forge_a_message_is_not_forwarded(
    tmp_path: Path, member: str, value: str | None
) -> None:
    asyncio.run(fill(tmp_path, 1))
    segment = next((tmp_path / "ledger" / "wal").rglob("*.jsonl"))
    line = segment.read_bytes().splitlines()[0]
    members = json.loads(line) | {member: value}
    del members["sum"]
    body = json.dumps(members, separators=(",", ":")).encode()[:-1]
    forged = body + b',"sum":"' + hashlib.sha256(body).hexdigest()[:16].encode() + b'"}'
    segment.write_bytes(segment.read_bytes().replace(line, forged))
    with serving(HttpReceiver()) as receiver:
        with pytest.raises(Unreadable, match="not our form"):
            forwarder(tmp_path / "ledger", open_wire(f"http://{receiver.place}")).run(once=True)
    assert receiver.taken == []


@pytest.mark.parametrize(
    "url",
    ["ftp://h", "https://user:pw@h/", "syslog+tls://", "file:///etc", "https://h:99999", "h:514"],
)
def test_other_destinations_are_refused(url: str) -> None:
    with pytest.raises(BadDestination) as caught:
        open_wire(url)
    assert "pw" not in str(caught.value)


def test_a_ledger_in_postgresql_is_forwarded_too(database: Database, tmp_path: Path) -> None:
    asyncio.run(a_closed_ledger(database.writer, tmp_path))
    with serving(HttpReceiver()) as receiver:
        wire = open_wire(f"http://{receiver.place}")
        with closing(open_source(database.reader)) as source:
            Forwarder(source, wire, tmp_path / "cursor.json", lambda *_: None).run(once=True)
    assert len(records_of(lines_taken(receiver))) == 82


def test_the_command_forwards_and_tells_how_far_it_is(ledger: Path, tmp_path: Path) -> None:
    with serving(HttpReceiver()) as receiver:
        words = ["forward", f"http://{receiver.place}", str(ledger)]
        words += ["--cursor", str(tmp_path / "c" / "cursor.json")]
        done = CliRunner().invoke(app, [*words, "--once"])
        told = CliRunner().invoke(app, [*words, "--status"])
    assert done.exit_code == 0, done.output
    shown = json.loads(told.stdout)
    assert (shown["num_checkpoints"], shown["seconds"]) == (0, 0.0)
    assert shown["num_sent"] == len(lines_of(tmp_path)) + newest_index(ledger) + 1
    assert read_cursor(tmp_path / "c" / "cursor.json") == Cursor(
        newest_index(ledger) + 1, 0, shown["num_sent"], 0
    )
    failed = CliRunner().invoke(app, ["forward", "http://127.0.0.1:1", str(ledger), "--once"])
    assert failed.exit_code == 1
