"""What may follow the policy in force (C42): signed, later, in time, and by two if it loosens."""

from __future__ import annotations

import datetime as dt
import re
import threading
from pathlib import Path

import pytest

from proxy.errors import PolicyError
from proxy.policy.approval import FOLDER, Approval, Approved
from proxy.policy.decide import decide
from proxy.policy.refusal import PolicyRefused, Rejection
from proxy.policy.reload import PolicyKeeper, Reload, Verdict
from proxy.types import Action
from tests.factories import a_finding, an_inspection
from tests.proxy.policy.policies import OPEN, a_context, write
from tests.proxy.policy.signing import Persons
from tests.proxy.policy.test_reload import put

RULE = "rules: [{id: r, why: GDPR, when: {entities: [PERSON]}, action: %s}]\n"
STRICT = "default: allow\n" + OPEN + RULE % "block"
LOOSE = "default: allow\n" + OPEN + RULE % "local_only"
VERSIONS = ((LOOSE, Action.LOCAL_ONLY), ("a: [", None), (STRICT, Action.BLOCK))
NOON = dt.datetime(2026, 11, 24, 12, tzinfo=dt.UTC)
JANE, BEN = "jane@x.org", "ben@x.org"


@pytest.fixture
def persons(tmp_path: Path) -> Persons:
    return Persons(tmp_path / "trust", JANE, BEN)


def approval(persons: Persons, *, second: bool = False, now: dt.datetime = NOON) -> Approval:
    data = persons.trust.parent / "data"
    return Approval(persons.trust, data, second_person=second, clock=lambda: now)


def put_signed(persons: Persons, path: Path, text: str, revision: int, *names: str) -> None:
    """Sign the version aside and put both in place, the signature first."""
    aside = path.parent / "aside"
    aside.mkdir(exist_ok=True)
    put(aside / path.name, text, revision)
    signature = persons.sign(aside / path.name, *names)
    signature.replace(path.parent / signature.name)
    (aside / path.name).replace(path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "live").mkdir()
    return write(tmp_path / "live", STRICT)


def reason(reload: Reload | None) -> Rejection | None:
    assert reload is not None
    assert (reload.verdict is Verdict.REJECTED) == (reload.reason is not None)
    return reload.reason


def start_fails(path: Path, by: Approval) -> Rejection:
    with pytest.raises(PolicyRefused) as caught:
        PolicyKeeper(path, approval=by)
    return caught.value.reason


def test_starts_on_a_signed_policy_and_takes_a_signed_change(path: Path, persons: Persons) -> None:
    put_signed(persons, path, STRICT, 3, JANE)
    keeper = PolicyKeeper(path, approval=approval(persons))
    assert keeper.approved == Approved((JANE,), None)
    put_signed(persons, path, LOOSE, 4, BEN)
    loaded = keeper.check()
    assert loaded is not None
    assert (loaded.verdict, loaded.approved) == (Verdict.LOADED, Approved((BEN,), None))


def test_does_not_start_unsigned_or_without_keys(path: Path, persons: Persons) -> None:
    assert start_fails(path, approval(persons)) is Rejection.UNSIGNED
    put_signed(persons, path, STRICT, 3, JANE)
    for key in persons.trust.glob("*"):
        key.unlink()
    assert start_fails(path, approval(persons)) is Rejection.NO_TRUST_ROOT


def test_an_unsigned_change_leaves_the_last_good_one_until_it_is_signed(
    path: Path, persons: Persons
) -> None:
    put_signed(persons, path, STRICT, 3, JANE)
    keeper = PolicyKeeper(path, approval=approval(persons))
    before = keeper.current()
    put(path, LOOSE, 4)
    assert reason(keeper.check()) is Rejection.UNSIGNED
    assert keeper.current() is before
    assert not keeper.healthy
    persons.sign(path, JANE)
    assert reason(keeper.check()) is None
    assert keeper.healthy


def test_an_edited_copy_of_the_last_good_one_does_not_start(path: Path, persons: Persons) -> None:
    """There is no copy but the files themselves, and a restart checks them again."""
    put_signed(persons, path, STRICT, 3, JANE)
    PolicyKeeper(path, approval=approval(persons))
    path.write_text(path.read_text().replace("block", "allow"))
    assert start_fails(path, approval(persons)) is Rejection.UNSIGNED


def test_an_old_version_with_a_good_signature_is_refused_after_a_restart_too(
    path: Path, persons: Persons
) -> None:
    put_signed(persons, path, LOOSE, 3, JANE)
    keeper = PolicyKeeper(path, approval=approval(persons))
    put_signed(persons, path, STRICT, 4, JANE)
    keeper.check()
    put_signed(persons, path, LOOSE, 3, JANE)
    assert reason(keeper.check()) is Rejection.OLDER_REVISION
    assert start_fails(path, approval(persons)) is Rejection.OLDER_REVISION


def test_two_versions_of_one_revision_cannot_be_played_against_each_other(
    path: Path, persons: Persons
) -> None:
    put_signed(persons, path, STRICT, 3, JANE)
    keeper = PolicyKeeper(path, approval=approval(persons))
    put_signed(persons, path, LOOSE, 3, JANE)
    assert reason(keeper.check()) is Rejection.REVISION_NOT_RAISED
    assert start_fails(path, approval(persons)) is Rejection.REVISION_NOT_RAISED


def test_another_pack_is_refused(path: Path, persons: Persons) -> None:
    put_signed(persons, path, STRICT, 3, JANE)
    keeper = PolicyKeeper(path, approval=approval(persons))
    path.write_text(path.read_text().replace("pack: trial", "pack: press"))
    persons.sign(path, JANE)
    assert reason(keeper.check()) is Rejection.OTHER_PACK


def test_what_is_valid_no_more_is_refused_also_when_the_clock_is_set_back(
    path: Path, persons: Persons
) -> None:
    text = STRICT + "valid: {until: 2026-11-20}\n"
    put_signed(persons, path, text, 3, JANE)
    assert start_fails(path, approval(persons)) is Rejection.EXPIRED
    put_signed(persons, path, STRICT, 3, JANE)
    keeper = PolicyKeeper(path, approval=approval(persons))
    put_signed(persons, path, text, 4, JANE)
    assert reason(keeper.check()) is Rejection.EXPIRED
    long_ago = approval(persons, now=NOON - dt.timedelta(days=30))
    assert start_fails(path, long_ago) is Rejection.EXPIRED


@pytest.mark.parametrize("left", ["", "{", "[]", '{"pack": "trial"}', "null"])
def test_a_mark_that_cannot_be_read_refuses(path: Path, persons: Persons, left: str) -> None:
    put_signed(persons, path, STRICT, 3, JANE)
    keeper = PolicyKeeper(path, approval=approval(persons))
    mark = persons.trust.parent / "data" / FOLDER / "in-force.json"
    mark.write_text(left)
    assert start_fails(path, approval(persons)) is Rejection.STATE_UNREADABLE
    put_signed(persons, path, STRICT, 4, JANE)
    assert reason(keeper.check()) is Rejection.STATE_UNREADABLE


def test_a_folder_that_cannot_be_written_refuses(path: Path, persons: Persons) -> None:
    put_signed(persons, path, STRICT, 3, JANE)
    (persons.trust.parent / "data").write_text("a file")
    assert start_fails(path, approval(persons)) is Rejection.STATE_UNREADABLE


def test_a_key_that_is_taken_out_takes_its_signatures_with_it(path: Path, persons: Persons) -> None:
    put_signed(persons, path, STRICT, 3, JANE)
    keeper = PolicyKeeper(path, approval=approval(persons))
    (persons.trust / f"{JANE}.pub").unlink()
    assert reason(keeper.check()) is Rejection.UNKNOWN_SIGNER
    assert not keeper.healthy


def test_what_tightens_needs_one_and_what_loosens_two(path: Path, persons: Persons) -> None:
    put_signed(persons, path, LOOSE, 3, JANE, BEN)
    keeper = PolicyKeeper(path, approval=approval(persons, second=True))
    put_signed(persons, path, STRICT, 4, JANE)
    tightened = keeper.check()
    assert tightened is not None
    assert tightened.approved == Approved((JANE,), looser=False)
    put_signed(persons, path, LOOSE, 5, JANE)
    assert reason(keeper.check()) is Rejection.NEEDS_SECOND_PERSON
    assert keeper.current().rules[0].action is Action.BLOCK
    persons.sign(path, BEN)
    loosened = keeper.check()
    assert loosened is not None
    assert loosened.approved == Approved((BEN, JANE), looser=True)


def test_the_same_person_twice_is_one(path: Path, persons: Persons) -> None:
    put_signed(persons, path, LOOSE, 3, JANE, JANE)
    second = approval(persons, second=True)
    assert start_fails(path, second) is Rejection.NEEDS_SECOND_PERSON


def test_a_restart_on_another_file_needs_two_since_nothing_can_be_compared(
    path: Path, persons: Persons
) -> None:
    put_signed(persons, path, STRICT, 3, JANE, BEN)
    PolicyKeeper(path, approval=approval(persons, second=True))
    PolicyKeeper(path, approval=approval(persons, second=True))  # the same file: approved before
    put_signed(persons, path, LOOSE, 4, JANE)
    second = approval(persons, second=True)
    assert start_fails(path, second) is Rejection.NEEDS_SECOND_PERSON


def test_what_cannot_be_proved_counts_as_looser(path: Path, persons: Persons) -> None:
    scopes = ", ".join(f"{key}: [a, b, c, d, e, f, g, h, i]" for key in ("apps", "teams", "keys"))
    many = STRICT.replace("action: block", f"action: block, scope: {{{scopes}}}")
    put_signed(persons, path, many, 3, JANE, BEN)
    keeper = PolicyKeeper(path, approval=approval(persons, second=True))
    (rule,) = re.findall(r"\{id: r.*\}", many)
    halves = [rule.replace("apps: [a, b,", "apps: [b,"), rule.replace("id: r", "id: s", 1)]
    halves[1] = halves[1].replace("apps: [a, b, c, d, e, f, g, h, i]", "apps: [a]")
    put_signed(persons, path, many.replace(rule, ", ".join(halves)), 4, JANE)
    assert reason(keeper.check()) is Rejection.NEEDS_SECOND_PERSON


def test_a_server_process_that_is_behind_follows_what_another_one_approved(
    path: Path, persons: Persons
) -> None:
    put_signed(persons, path, LOOSE, 3, JANE, BEN)
    ahead = PolicyKeeper(path, approval=approval(persons, second=True))
    behind = PolicyKeeper(path, approval=approval(persons, second=True))
    middle = STRICT + "# the next one\n"
    put_signed(persons, path, middle, 4, JANE)
    ahead.check()
    put_signed(persons, path, STRICT, 5, JANE)
    assert reason(behind.check()) is Rejection.NEEDS_SECOND_PERSON  # it never saw revision 4
    assert reason(ahead.check()) is None
    assert reason(behind.check()) is None
    assert behind.current().digest == ahead.current().digest


def test_every_decision_is_of_one_signed_version_while_the_files_flip(
    path: Path, persons: Persons
) -> None:
    put_signed(persons, path, STRICT, 3, JANE)
    keeper = PolicyKeeper(path, approval=approval(persons))
    digests = {keeper.current().digest: Action.BLOCK}
    stop = threading.Event()
    taken = [0, 0]

    def flip() -> None:
        revision = 3
        while not stop.is_set():
            for text, action in VERSIONS:
                revision += 1
                if action is None:
                    put(path, text, revision)
                else:
                    put_signed(persons, path, text, revision, JANE)
                reload = keeper.check()
                assert reload is not None
                taken[reload.verdict is Verdict.REJECTED] += 1
                if action is not None:
                    digests[reload.digest] = action
                put(path, LOOSE + "# nobody signed this\n", revision)
                assert reason(keeper.check()) is Rejection.UNSIGNED

    flipper = threading.Thread(target=flip)
    flipper.start()
    try:
        decisions = [
            decide(keeper.current(), a_context(), an_inspection(a_finding()), decision_id="d")
            for _ in range(10_000)
        ]
    finally:
        stop.set()
        flipper.join()
    assert all(digests[d.policy_digest] is d.action for d in decisions)
    assert min(taken) > 0


def test_without_a_trust_folder_nothing_is_asked(path: Path) -> None:
    keeper = PolicyKeeper(path)
    assert keeper.approved is None
    with pytest.raises(PolicyError):
        PolicyKeeper(path.with_name("nothing.yaml"))
