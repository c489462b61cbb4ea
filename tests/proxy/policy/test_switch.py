"""The incident switch holds at once, over restarts, and in doubt."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.policy.switch import FILE_NAME, EgressSwitch, SwitchState


def test_is_on_until_somebody_turns_it_off(tmp_path: Path) -> None:
    switch, another = EgressSwitch(tmp_path), EgressSwitch(tmp_path)
    assert switch.is_on()
    switch.turn_off("sec@example.com", "incident 7")
    assert not another.is_on()
    assert (another.state().by, another.state().why) == ("sec@example.com", "incident 7")
    assert another.turn_on().is_on
    assert switch.is_on()


def test_turning_twice_is_the_same(tmp_path: Path) -> None:
    switch = EgressSwitch(tmp_path / "data")
    switch.turn_off("a", "b")
    assert not switch.turn_off("a", "b").is_on
    switch.turn_on()
    assert switch.turn_on().is_on


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff"])
def test_any_file_in_its_place_means_off(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    assert not EgressSwitch(tmp_path).is_on()
    assert not EgressSwitch(tmp_path).state().is_on


def test_a_dangling_link_means_off(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).symlink_to(tmp_path / "nowhere")
    assert not EgressSwitch(tmp_path).is_on()


def test_is_off_where_it_cannot_look(tmp_path: Path) -> None:
    assert not EgressSwitch(tmp_path / "gone").is_on()
    (tmp_path / "file").write_text("")
    assert not EgressSwitch(tmp_path / "file").is_on()


def test_does_not_write_through_a_link(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("kept")
    (tmp_path / FILE_NAME).symlink_to(target)
    with pytest.raises(OSError, match="symbolic"):
        EgressSwitch(tmp_path).turn_off("a", "b")
    assert target.read_text() == "kept"


def test_says_that_it_is_on(tmp_path: Path) -> None:
    assert EgressSwitch(tmp_path).state() == SwitchState(is_on=True)
