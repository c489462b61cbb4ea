"""A candidate beside the policy in force: its share, its end, and that it fails closed."""

from __future__ import annotations

import datetime as dt
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from proxy.errors import PolicyError
from proxy.policy.approval import Approval
from proxy.policy.model import Policy
from proxy.policy.refusal import PolicyRefused, Rejection
from proxy.policy.source import FilePolicySource
from proxy.policy.staging import (
    MAX_DAYS,
    Order,
    Stage,
    StageChange,
    StageKeeper,
    an_order,
    conversation,
    ordered,
    stage,
    unstage,
)
from proxy.types import Request
from tests.factories import a_body, a_request
from tests.proxy.policy.policies import write
from tests.proxy.policy.signing import Persons
from tests.proxy.policy.test_approval import BEN, JANE, LOOSE, NOON, STRICT
from tests.proxy.policy.test_reload import put

DAY = dt.timedelta(days=1)


@dataclass
class World:
    """A policy in force, a candidate beside it, and a clock."""

    folder: Path
    now: dt.datetime = NOON
    approval: Approval | None = None
    force: Policy = field(init=False)

    def __post_init__(self) -> None:
        (self.folder / "next").mkdir()
        self.force = FilePolicySource(write(self.folder, STRICT)).load()
        self.candidate = self.folder / "next" / "trial.yaml"
        put(self.candidate, LOOSE, 4)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def state(self) -> Path:
        return self.data / "policy" / "staged.json"

    def keeper(self) -> StageKeeper:
        return StageKeeper(self.data, lambda: self.force, self.approval, lambda: self.now)

    def stage(self, share: int = 0, days: int = 7) -> Order:
        order = an_order(share, self.now + days * DAY, self.now)
        return stage(self.candidate, self.data, self.force, self.approval, order)


def asking(number: int) -> Request:
    return a_request(a_body(f"Question {number}"))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_every_process_sees_the_candidate_and_that_it_is_gone(world: World) -> None:
    one, two = world.keeper(), world.keeper()
    assert (one.check(), one.current()) == (None, None)
    order = world.stage()
    for keeper in (one, two):
        change = keeper.check()
        assert change == StageChange(Stage.SHADOW, order.digest, 0, order.until.isoformat())
        staged = keeper.current()
        assert staged is not None
        assert staged.policy.digest == order.digest != world.force.digest
        assert not staged.takes(asking(0))
        assert keeper.check() is None
    unstage(world.data)
    for keeper in (one, two):
        assert keeper.check() == StageChange(Stage.OFF)
        assert keeper.current() is None


def test_what_is_staged_is_a_copy(world: World) -> None:
    order = world.stage()
    world.candidate.write_text("broken: [")
    keeper = world.keeper()
    keeper.check()
    staged = keeper.current()
    assert staged is not None
    assert staged.policy.digest == order.digest


def test_a_share_is_about_that_share_and_the_same_on_every_process(world: World) -> None:
    world.stage(share=10)
    sides = []
    for keeper in (world.keeper(), world.keeper()):
        change = keeper.check()
        assert change is not None
        assert change.stage is Stage.SHARE
        staged = keeper.current()
        assert staged is not None
        sides.append([staged.takes(asking(number)) for number in range(2000)])
    assert sides[0] == sides[1]
    assert 140 < sum(sides[0]) < 260  # binomial, 4.5 standard deviations each way
    world.stage(share=100)
    keeper = world.keeper()
    keeper.check()
    whole = keeper.current()
    assert whole is not None
    assert all(whole.takes(asking(number)) for number in range(200))


def test_another_order_picks_another_share(world: World) -> None:
    picked = []
    for _ in range(2):
        world.stage(share=50)
        keeper = world.keeper()
        keeper.check()
        staged = keeper.current()
        assert staged is not None
        picked.append([staged.takes(asking(number)) for number in range(64)])
    assert picked[0] != picked[1]


def test_it_ends_loudly_and_no_clock_brings_it_back(world: World) -> None:
    one, two = world.keeper(), world.keeper()
    order = world.stage(share=100, days=1)
    one.check()
    two.check()
    world.now += DAY
    assert one.current() is None  # at once, before anybody looks again
    for keeper in (one, two):
        change = keeper.check()
        assert change is not None
        assert (change.stage, change.digest) == (Stage.EXPIRED, order.digest)
        assert keeper.check() is None
    world.now -= DAY
    late = world.keeper()
    for keeper in (one, two, late):
        assert keeper.check() is None
        assert keeper.current() is None
    assert not world.state.exists()


def test_an_end_that_cannot_be_written_down_is_an_end_all_the_same(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = world.keeper()
    world.stage(days=1)
    keeper.check()
    world.now += DAY

    def fails(*_: object) -> Path:
        raise OSError

    monkeypatch.setattr(Path, "replace", fails)
    change = keeper.check()
    assert change is not None
    assert change.stage is Stage.EXPIRED
    assert keeper.check() is None
    assert keeper.current() is None


def test_a_clock_that_was_set_back_ends_it(world: World) -> None:
    keeper = world.keeper()
    world.stage()
    keeper.check()
    world.now -= DAY
    assert keeper.current() is None
    change = keeper.check()
    assert change is not None
    assert change.stage is Stage.EXPIRED


@pytest.mark.parametrize("days", [0, -1, MAX_DAYS + 1])
def test_no_candidate_is_without_an_end(days: int) -> None:
    with pytest.raises(PolicyError, match="ends within"):
        an_order(0, NOON + days * DAY, NOON)


def edit(**changes: object) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return apply


def as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_text(""),
    "not JSON": lambda path: path.write_text("{"),
    "a list": lambda path: path.write_text("[]"),
    "not text": lambda path: path.write_bytes(b"\xff"),
    "share too large": edit(share=101),
    "share below 0": edit(share=-1),
    "share as text": edit(share="10"),
    "share as truth": edit(share=True),
    "no end": edit(until="never"),
    "an end without a zone": edit(until="2026-11-30T00:00:00"),
    "a far end": edit(until="2099-01-01T00:00:00+00:00"),
    "another folder": edit(file="../trial.yaml"),
    "no salt": edit(salt=""),
    "a number for a digest": edit(digest=7),
    "another digest": edit(digest="sha256:" + "0" * 64),
    "a folder": as_folder,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_state_that_cannot_be_read_leaves_only_the_policy_in_force(
    world: World, damage: Callable[[Path], object]
) -> None:
    keeper = world.keeper()
    world.stage(share=100)
    keeper.check()
    damage(world.state)
    change = keeper.check()
    assert change is not None
    assert change.stage is Stage.REFUSED
    assert keeper.current() is None
    assert keeper.check() is None


def test_a_copy_that_was_changed_is_not_asked(world: World) -> None:
    order = world.stage(share=100)
    (copy,) = (world.data / "policy" / "staged").iterdir()
    file = copy / order.file
    file.write_text(file.read_text().replace("local_only", "allow"))
    keeper = world.keeper()
    change = keeper.check()
    assert change is not None
    assert change.stage is Stage.REFUSED
    assert keeper.current() is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (LOOSE.replace("default", "defaults"), None),
        (
            LOOSE + "tests: [{name: wrong, findings: [], expect: {action: block}}]\n",
            Rejection.TESTS_FAILED,
        ),
    ],
)
def test_what_does_not_hold_is_not_staged(
    world: World, text: str, reason: Rejection | None
) -> None:
    put(world.candidate, text, 4)
    with pytest.raises(PolicyError) as caught:
        world.stage()
    assert getattr(caught.value, "reason", None) is reason
    assert ordered(world.data) is None


def test_an_old_version_and_another_pack_are_not_staged(world: World) -> None:
    put(world.candidate, LOOSE, 2)
    with pytest.raises(PolicyRefused) as caught:
        world.stage()
    assert caught.value.reason is Rejection.OLDER_REVISION
    world.candidate = write(world.folder / "next", LOOSE, "other")
    with pytest.raises(PolicyRefused) as caught:
        world.stage()
    assert caught.value.reason is Rejection.OTHER_PACK


def test_a_candidate_that_came_into_force_is_none_any_more(world: World) -> None:
    keeper = world.keeper()
    order = world.stage()
    keeper.check()
    world.force = FilePolicySource(world.candidate).load()
    assert keeper.check() == StageChange(Stage.OFF, order.digest, reason="in_force")
    assert keeper.current() is None


@pytest.fixture
def persons(world: World) -> Persons:
    persons = Persons(world.folder / "trust", JANE, BEN)
    world.approval = Approval(
        persons.trust, world.data, second_person=True, clock=lambda: world.now
    )
    return persons


def refusal(world: World, share: int) -> Rejection:
    with pytest.raises(PolicyRefused) as caught:
        world.stage(share)
    return caught.value.reason


def test_a_looser_candidate_needs_two_persons_before_any_share(
    world: World, persons: Persons
) -> None:
    assert refusal(world, 0) is Rejection.UNSIGNED
    persons.sign(world.candidate, JANE)
    world.stage(0)  # in the shadow it decides nothing
    assert refusal(world, 1) is Rejection.NEEDS_SECOND_PERSON
    persons.sign(world.candidate, BEN)
    world.stage(1)
    keeper = world.keeper()
    keeper.check()
    assert keeper.current() is not None


def test_a_share_cannot_be_written_into_the_state_by_hand(world: World, persons: Persons) -> None:
    persons.sign(world.candidate, JANE)
    world.stage(0)
    edit(share=100)(world.state)
    keeper = world.keeper()
    change = keeper.check()
    assert change is not None
    assert (change.stage, change.reason) == (Stage.REFUSED, "needs_second_person")
    assert keeper.current() is None


def test_a_key_that_is_taken_out_ends_a_candidate_it_signed(world: World, persons: Persons) -> None:
    persons.sign(world.candidate, JANE, BEN)
    world.stage(100)
    keeper = world.keeper()
    keeper.check()
    assert keeper.current() is not None
    (persons.trust / f"{BEN}.pub").unlink()
    change = keeper.check()
    assert change is not None
    assert change.reason == "needs_second_person"
    assert keeper.current() is None


def test_a_candidate_that_became_looser_by_a_stricter_policy_in_force_is_off(
    world: World, persons: Persons
) -> None:
    persons.sign(world.candidate, JANE)
    stricter = world.force
    loose = write(world.folder, LOOSE)
    world.force = FilePolicySource(loose).load()
    world.stage(50)  # no looser than what is in force: one person is enough
    keeper = world.keeper()
    keeper.check()
    assert keeper.current() is not None
    world.force = stricter
    change = keeper.check()
    assert change is not None
    assert change.reason == "needs_second_person"


def test_files_that_change_while_they_are_copied_are_not_staged(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    import proxy.policy.staging as staging

    copy = staging._copy

    def change_and_copy(found: Policy, path: Path, target: Path) -> None:
        put(path, LOOSE + "# changed\n", 4)
        copy(found, path, target)

    monkeypatch.setattr(staging, "_copy", change_and_copy)
    with pytest.raises(PolicyError, match="changed while"):
        world.stage()
    assert ordered(world.data) is None
    assert os.listdir(world.data / "policy" / "staged") == []


def test_a_conversation_is_known_by_how_it_began() -> None:
    begin = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    later = [*begin, {"role": "assistant", "content": "Hello"}, {"role": "user", "content": "?"}]
    other = [begin[0], {"role": "user", "content": "Ho"}]
    first = conversation({"messages": begin, "temperature": 1})
    assert first == conversation({"messages": later})
    assert first == conversation({"messages": [{"role": "system", "content": "9:30"}, begin[1]]})
    assert first != conversation({"messages": other})
    assert conversation({"prompt": "a"}) != conversation({"prompt": "b"})
    assert conversation({"messages": [1, None]}) != conversation({"messages": []})
