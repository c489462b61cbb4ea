"""Retention: old records go, on the record; the rest proves as before, and nothing else may go."""

from __future__ import annotations

import asyncio
import io
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from audit import prune as prune_module
from audit.acts import Detail, record_acts
from audit.bundle import check_bundle, make_bundle
from audit.captures import erase_body
from audit.cli import app
from audit.gaps import REMOVED
from audit.merkle import BadProof, leaf_hash
from audit.month import read_month
from audit.packing import pack_ledger
from audit.proof import prove_record
from audit.prune import NotPruned, prune
from audit.query import Filter, query, uninspected_egress
from audit.replay import WAL
from audit.retention import PRUNED, holds_at, stored_events
from audit.segments import all_segments, segments_of
from audit.siem.source import FileSource, items_of
from audit.sinks.file import SUFFIX
from audit.statement import NotTrue, attest, check_statement, rerun
from audit.vault import vault_refs
from audit.verify import verify
from tests.audit.independent_verifier import Check
from tests.audit.test_ledger import ORIGIN, abandon, an_intent, an_outcome, open_ledger
from tests.audit.test_packing import exchange, lines_in, small_segments
from tests.audit.test_query import a_decision
from tests.audit.test_statement import HEALTH, SINCE, UNTIL
from tests.audit.test_vault import Room
from tests.audit.test_vault import room as room

#: Records sealed before the second of this time are old.
Cut = datetime


def new_id() -> str:
    return f"dec_{secrets.token_hex(14)}"


def next_second() -> Cut:
    """Wait for the next second: what was sealed by now is older."""
    time.sleep(1.02 - time.time() % 1)
    return datetime.now(UTC)


@dataclass(frozen=True)
class Old:
    """A ledger whose records before ``cut`` are old."""

    folder: Path
    cut: Cut

    @property
    def ledger(self) -> Path:
        return self.folder / "ledger"

    @property
    def keys(self) -> Path:
        return self.folder / "keys"

    def prune(self, *, dry_run: bool = False) -> prune_module.Pruned:
        return prune(self.ledger, self.keys, 0, "Jane Doe", dry_run=dry_run, now=self.cut)

    def files(self) -> list[Path]:
        return [s.path for s in all_segments(self.ledger / WAL) if s.is_pruned]

    def run(self, *arguments: str) -> Result:
        where = ["--ledger", str(self.ledger), "--keys", str(self.keys)]
        return CliRunner().invoke(app, [*arguments, *where])


def both_find(ledger: Path) -> list[str]:
    """The faults of ours; the independent verifier must agree that there are some, or none."""
    faults = [fault.problem for fault in verify(ledger).faults]
    assert bool(Check(ledger).run()) is bool(faults)
    return faults


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Old:
    """Two old chains, one left by a crash and packed in part, and a fresh one."""
    folder = tmp_path_factory.mktemp("old")
    with small_segments():
        asyncio.run(exchange(folder, 4, crash=True))
        asyncio.run(exchange(folder, 4))
        pack_ledger(folder / "ledger", min_bytes=3000)
        cut = next_second()
        asyncio.run(exchange(folder, 3))
    return Old(folder, cut)


@pytest.fixture
def old(pristine: Old, tmp_path: Path) -> Old:
    shutil.copytree(pristine.folder, tmp_path, dirs_exist_ok=True)
    return Old(tmp_path, pristine.cut)


@pytest.fixture
def pruned(old: Old) -> Old:
    assert old.prune().num_records > 20
    return old


def test_old_records_go_and_the_rest_proves_as_before(old: Old) -> None:
    before = lines_in(old.ledger)
    would = old.prune(dry_run=True)
    assert lines_in(old.ledger) == before
    done = old.prune()
    assert done == would
    report = verify(old.ledger)
    assert both_find(old.ledger) == []
    assert (report.num_removed, report.open_chains, report.open_intents) == (done.num_records, 0, 0)
    assert report.kinds[PRUNED] == done.num_segments
    (removal,) = report.removals
    assert (removal["records"], removal["by"]) == (done.num_records, "Jane Doe")
    left = query(old.ledger, Filter(kind="egress.intent"))
    assert len(left) == 3
    assert uninspected_egress(old.ledger, Filter()) == []
    prove_record(old.ledger, left[0]["id"])
    gone = json.loads(next(line for line in before if b"egress.intent" in line))["id"]
    with pytest.raises(BadProof, match="retention"):
        prove_record(old.ledger, gone)
    assert gone.encode() not in b"".join(p.read_bytes() for p in old.ledger.rglob("*.*"))
    assert old.prune().num_segments == 0  # what is done is done; its own records stay
    assert verify(old.ledger).kinds[PRUNED] == done.num_segments


def test_the_ledger_goes_on_behind_what_was_removed(pruned: Old) -> None:
    (pruned.ledger / "tlog" / "edge.json").unlink()  # the tree must be walked
    asyncio.run(exchange(pruned.folder, 1))
    assert both_find(pruned.ledger) == []
    assert verify(pruned.ledger).kinds["decision"] == 4


def test_what_reads_the_ledger_says_that_records_are_gone(pruned: Old) -> None:
    with pytest.raises(BadProof, match="were removed"):
        make_bundle(pruned.ledger, pruned.keys, SINCE, UNTIL)
    since = pruned.cut.isoformat()[:19]
    bundle = make_bundle(pruned.ledger, pruned.keys, since, UNTIL)
    assert check_bundle(io.BytesIO(bundle), None).num_records >= 11
    source = FileSource(pruned.ledger)
    sent = [item.text for n in range(source.newest_index() + 1) for item in items_of(source, n)]
    texts = [line.decode() for line in lines_in(pruned.ledger)]
    assert sorted(text for text in sent if "note" not in json.loads(text)) == sorted(texts)
    shown = CliRunner().invoke(app, ["verify", str(pruned.ledger)]).stdout
    assert "records removed by retention" in shown
    assert "every record that was not removed stands" in shown


def _unlink(path: Path, _: Old) -> None:
    path.unlink()


def _strip(path: Path, _: Old) -> None:
    path.write_bytes(path.read_bytes().replace(b"\n", b"0\n", 1))


def _swap(path: Path, old: Old) -> None:
    path.write_bytes(old.files()[1].read_bytes())


def _shorten(path: Path, _: Old) -> None:
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))


def _forge(_: Path, old: Old) -> None:
    """Somebody who knows the form, and has no key, removes a segment that is on no record."""
    whole = next(s for s in all_segments(old.ledger / WAL) if s.suffix == SUFFIX)
    lines = whole.path.read_bytes().split(b"\n")[:-1]
    fake = b"".join(leaf_hash(line).hex().encode() + b"\n" for line in lines)
    whole.as_form(".pruned").path.write_bytes(fake)
    whole.path.unlink()


def _join(path: Path, _: Old) -> None:
    """The record of one removal does not serve for the segment behind it."""
    first, second, *__ = segments_of(path.parent)
    first.path.write_bytes(first.path.read_bytes() + second.path.read_bytes())
    second.path.unlink()


def _lose_the_record(_: Path, old: Old) -> None:
    for segment in all_segments(old.ledger / WAL):
        if not segment.is_pruned and b"retention.pruned" in segment.path.read_bytes():
            shutil.rmtree(segment.folder)


@pytest.mark.parametrize(
    "change", [_unlink, _strip, _swap, _shorten, _forge, _join, _lose_the_record]
)
def test_what_goes_without_a_record_of_it_is_found(
    change: Callable[[Path, Old], None], pruned: Old
) -> None:
    change(pruned.files()[0], pruned)
    assert both_find(pruned.ledger) != []


def test_each_segment_that_vanishes_is_found(pruned: Old) -> None:
    for segment in all_segments(pruned.ledger / WAL):
        data = segment.path.read_bytes()
        segment.path.unlink()
        assert both_find(pruned.ledger) != [], segment
        segment.path.write_bytes(data)
    assert both_find(pruned.ledger) == []


@pytest.mark.parametrize("lie", [{"days": 2}, {"before": "2026-01-01T00:00:00"}, {"days": -400}])
def test_who_has_the_key_cannot_say_that_young_records_were_old(
    lie: dict[str, int | str], old: Old, monkeypatch: pytest.MonkeyPatch
) -> None:
    def record(ledger: Path, keys: Path, kind: str, details: list[Detail]) -> None:
        record_acts(ledger, keys, kind, [{**said, **lie} for said in details])

    monkeypatch.setattr(prune_module, "record_acts", record)
    old.prune()
    assert both_find(old.ledger) != []


def test_a_request_goes_whole_or_not_at_all(tmp_path: Path) -> None:
    """A decision in an old segment stays as long as its egress, or the outcome of that, does."""

    async def run() -> Cut:
        ledger = open_ledger(tmp_path)
        for number in range(3):
            id_ = f"dec_{number:028x}"
            await ledger.decision(replace(a_decision("desk", "PERSON", "cloud"), decision_id=id_))
        late = await ledger.intent(an_intent("dec_" + "0" * 28), b"body", ORIGIN)
        await asyncio.to_thread(ledger._seal_thread.seal_once)
        cut = await asyncio.to_thread(next_second)
        await ledger.outcome(an_outcome(late))
        permit = await ledger.intent(an_intent(f"dec_{1:028x}"), b"body", ORIGIN)
        await ledger.outcome(an_outcome(permit))
        await ledger.close()
        return cut

    with small_segments(500):
        old = Old(tmp_path, asyncio.run(run()))
    assert old.prune().num_records == 1  # the decision that nothing needs
    assert both_find(old.ledger) == []
    left = {row["decision_id"] for row in query(old.ledger, Filter(kind="decision"))}
    assert left == {"dec_" + "0" * 28, f"dec_{1:028x}"}
    assert uninspected_egress(old.ledger, Filter()) == []
    assert attest(old.ledger, old.keys, HEALTH)
    later = Old(tmp_path, next_second())
    assert later.prune().num_records > 4  # what was left of the old segments too
    assert both_find(old.ledger) == []
    assert query(old.ledger, Filter(kind="decision")) == []


def test_a_running_chain_is_pruned_and_a_crash_then_loses_no_intent(tmp_path: Path) -> None:
    async def run() -> None:
        ledger = open_ledger(tmp_path)
        permits = [await ledger.intent(an_intent(f"dec_{n:028x}"), b"b", ORIGIN) for n in range(4)]
        for permit in permits[1:]:
            await ledger.outcome(an_outcome(permit))
        await asyncio.to_thread(ledger._seal_thread.seal_once)
        old = Old(tmp_path, await asyncio.to_thread(next_second))
        await ledger.event("policy.loaded", {"digest": "x"})
        done = await asyncio.to_thread(old.prune)
        assert done.num_records > 3
        assert both_find(old.ledger) == []
        await ledger.event("still", {})
        abandon(ledger)

    with small_segments(500):
        asyncio.run(run())
        asyncio.run(open_ledger(tmp_path).close())
    report = verify(tmp_path / "ledger")
    assert both_find(tmp_path / "ledger") == []
    assert (report.open_intents, report.open_chains, report.kinds["egress.outcome"]) == (0, 0, 1)


def test_a_time_that_was_removed_does_not_look_like_one_in_which_nothing_left(old: Old) -> None:
    before = attest(old.ledger, old.keys, HEALTH)
    old.prune()
    first = min(line["time"] for line in map(json.loads, lines_in(old.ledger)))
    gone = replace(HEALTH, since="2026-01-01T00:00:00.000000Z", until=old.cut.isoformat()[:19])
    with pytest.raises(NotTrue, match="does not speak for any"):
        attest(old.ledger, old.keys, gone)
    key = verify(old.ledger).key
    statement = check_statement(attest(old.ledger, old.keys, HEALTH), key)
    (gap,) = [gap for gap in statement.content["evidence"]["gaps"] if gap["why"] == REMOVED]
    assert gap["until"] <= first
    assert (statement.content["evidence"]["egresses"], old.ledger.exists()) == (3, True)
    (said,) = rerun(old.ledger, check_statement(before, key), key)
    assert "were removed" in said
    month = read_month(old.ledger, f"{old.cut:%Y-%m}")
    assert [gap["why"] for gap in month.gaps].count(REMOVED) == 1


async def test_removed_times_join_over_heartbeats_and_acts_and_not_over_requests(
    tmp_path: Path,
) -> None:
    def act(kind: str) -> None:
        record_acts(tmp_path / "ledger", tmp_path / "keys", kind, [{"hold": "x"}])

    with small_segments(500):
        for number in range(3):
            await exchange(tmp_path, 1)
            await asyncio.to_thread(act, "retention.release" if number else "retention.hold")
    old = Old(tmp_path, await asyncio.to_thread(next_second))
    await exchange(tmp_path, 1)
    await asyncio.to_thread(old.prune)
    evidence = json.loads(
        (await asyncio.to_thread(attest, old.ledger, old.keys, HEALTH)).split(b"\n", 2)[2]
        .decode().rpartition("\n\n")[0]
    )["evidence"]  # fmt: skip
    assert [gap["why"] for gap in evidence["gaps"]].count(REMOVED) == 1


def test_what_is_on_hold_stays_until_it_is_released(old: Old) -> None:
    since = (old.cut - timedelta(hours=1)).isoformat()[:19]
    why = ("--by", "Jane Doe", "--reason", "case-17")
    assert old.run("hold", "case-17", "--from", since, *why).exit_code == 0
    assert old.run("hold", "case-17", *why).exit_code == 1  # the name is taken
    assert old.run("hold", "all time", *why).exit_code == 1
    assert old.run("hold", "other", "--app", "nobody", *why).exit_code == 0
    assert "case-17: from" in old.run("hold").stdout
    done = old.prune()
    assert (done.num_segments, done.num_held > 4, done.holds) == (0, True, ["case-17", "other"])
    assert verify(old.ledger).holds == ["case-17", "other"]
    assert old.run("release", "nothing", *why).exit_code == 1
    assert old.run("release", "case-17", *why).exit_code == 0
    assert old.prune().num_segments > 4
    assert both_find(old.ledger) == []


def test_a_hold_on_an_app_keeps_its_segments_and_no_others(tmp_path: Path) -> None:
    async def run() -> None:
        for name in ("desk", "billing"):
            ledger = open_ledger(tmp_path)
            decision = a_decision(name, "PERSON", "local")
            await ledger.decision(replace(decision, decision_id=f"dec_{len(name):028x}"))
            await ledger.close()

    asyncio.run(run())
    old = Old(tmp_path, next_second())
    why = ("--by", "Jane Doe", "--reason", "case-17")
    assert old.run("hold", "k", "--app", "billing", *why).exit_code == 0
    assert (old.prune().num_held, verify(old.ledger).faults) == (1, [])
    assert [row["app"] for row in query(old.ledger, Filter(kind="decision"))] == ["billing"]


def test_a_removal_under_a_hold_is_found_even_if_the_key_signed_it(
    old: Old, monkeypatch: pytest.MonkeyPatch
) -> None:
    why = ("--by", "Jane Doe", "--reason", "case-17")
    until = (old.cut + timedelta(days=1)).isoformat()[:19]
    assert old.run("hold", "case-17", "--to", until, *why).exit_code == 0
    monkeypatch.setattr(prune_module, "holds_at", lambda _: [])
    old.prune()
    assert "while hold case-17 was in force" in both_find(old.ledger)[0]


def test_a_changed_ledger_is_not_pruned(old: Old) -> None:
    whole = next(s for s in all_segments(old.ledger / WAL) if s.suffix == SUFFIX)
    whole.path.write_bytes(whole.path.read_bytes()[:-40])
    with pytest.raises(NotPruned, match="changed"):
        old.prune()


def test_the_policy_on_record_says_how_long_and_nobody_goes_below_it(old: Old) -> None:
    with pytest.raises(NotPruned, match="say --days"):
        prune(old.ledger, old.keys, None, "me", now=old.cut)
    for days in (400, 200):
        detail: Detail = {"digest": "sha256:" + "0" * 64, "retention_days": days}
        record_acts(old.ledger, old.keys, "policy.loaded", [detail])
    with pytest.raises(NotPruned, match="200 days"):
        prune(old.ledger, old.keys, 199, "me")
    done = prune(old.ledger, old.keys, None, "me")
    assert (done.days, done.num_records) == (200, 0)
    assert prune(old.ledger, old.keys, 201, "me").days == 201
    assert old.run("prune", "--days", "100", "--by", "me").exit_code == 1
    assert old.run("prune").exit_code == 2
    assert "would remove: 0 records" in old.run("prune", "--dry-run").stdout


def test_the_policy_in_force_stays_on_record_however_old(tmp_path: Path) -> None:
    detail: Detail = {"digest": "sha256:" + "0" * 64, "revision": 7}
    asyncio.run(exchange(tmp_path, 1))
    for _ in range(2):
        record_acts(tmp_path / "ledger", tmp_path / "keys", "policy.loaded", [detail])
    Old(tmp_path, next_second()).prune()
    assert len(query(tmp_path / "ledger", Filter(kind="policy.loaded"))) == 1


def test_a_removal_that_a_crash_cut_short_is_told_and_finished(
    old: Old, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(_: object) -> None:
        raise OSError(5, "cut short")

    with monkeypatch.context() as patch:
        patch.setattr(prune_module, "_replace", crash)
        with pytest.raises(OSError, match="cut short"):
            old.prune()
    report = verify(old.ledger)
    assert both_find(old.ledger) == []
    assert report.num_removed == 0
    assert len(report.unfinished_removals) == report.kinds[PRUNED]
    draft = next((old.ledger / WAL).iterdir()) / f".{0:012d}.jsonl.gz.00ff"
    draft.write_bytes(b"a copy of old records")
    old.prune()
    assert (verify(old.ledger).unfinished_removals, both_find(old.ledger)) == ([], [])
    assert not draft.exists()


def test_what_was_captured_goes_with_its_record_and_an_erasure_stays_with_its(room: Room) -> None:
    async def run(num: int) -> list[str]:
        ledger = room.open()
        ids = [
            (await ledger.intent(an_intent(new_id()), b"b", ORIGIN)).intent_id for _ in range(num)
        ]
        await ledger.close()
        return ids

    first, second = asyncio.run(run(2))
    why = ("--by", "Jane Doe", "--reason", "case-17")
    old = Old(room.folder, next_second())
    held = old.cut.isoformat()[:19]
    erase_body(room.ledger, room.keys, first, "gdpr_art_17", "Jane Doe")
    asyncio.run(run(1))
    later = Old(room.folder, next_second())
    assert later.run("hold", "k", "--to", held, *why).exit_code == 0
    later.prune()  # the old intents are held, their erasure and the younger intent are not
    report = verify(room.ledger)
    assert report.faults == []
    assert (report.num_captured, report.num_erased, report.num_orphans) == (2, 1, 0)
    assert len(vault_refs(room.ledger)) == 1
    assert later.run("release", "k", *why).exit_code == 0
    assert later.prune().num_captures == 2
    report = verify(room.ledger)
    assert (report.faults, report.num_captured, vault_refs(room.ledger)) == ([], 0, set())
    assert second.encode() not in b"".join(p.read_bytes() for p in room.ledger.rglob("*.*"))


def test_old_torn_tails_go_too(old: Old) -> None:
    folder = old.ledger / "quarantine"
    folder.mkdir(exist_ok=True)
    tails = [folder / f"{name}.tail" for name in ("old", "new")]
    for tail in tails:
        tail.write_bytes(b"half a record")
    past = old.cut.timestamp() - 5
    os.utime(tails[0], (past, past))
    old.prune()
    assert [tail.exists() for tail in tails] == [False, True]


def test_holds_are_those_of_the_tree_s_order(old: Old) -> None:
    for kind in ("retention.hold", "retention.release", "retention.hold"):
        record_acts(old.ledger, old.keys, kind, [{"hold": "k"}])
    events = stored_events(old.ledger)
    assert [len(holds_at(events, event.leaf)) for event in events] == [0, 1, 0]
    assert len(holds_at(events)) == 1


def test_a_pruned_ledger_is_followed(pruned: Old) -> None:
    shown = CliRunner().invoke(app, ["tail", str(pruned.ledger), "--no-follow", "-n", "500"])
    assert shown.exit_code == 0
    assert shown.stdout.count("retention.pruned") == verify(pruned.ledger).kinds[PRUNED]
