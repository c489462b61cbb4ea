"""What the pre-router learns keeps its promise, or is refused."""

from __future__ import annotations

import numpy as np
import pytest

from proxy.errors import SettingsError
from proxy.routing.foreseeing import Promise, ahead_below, encode, learn, split
from proxy.routing.prerouter import feature_names
from proxy.routing.rows import Item
from tests.proxy.routing.tables import EASY, HARD, FakeEncoder, foreseen_rows


def test_sends_no_more_in_vain_than_it_promises() -> None:
    """200 draws from a population of which the share in vain is known at each threshold."""
    random = np.random.default_rng(1)
    promise, missed = Promise(0.03, 0.05), 0
    for _ in range(200):
        chances = random.random(400)
        stays = random.random(400) < chances  # so the share in vain below t is t^2 / 2
        chosen = ahead_below(chances, stays, promise)
        assert chosen is not None
        missed += chosen**2 / 2 > promise.in_vain
    assert missed <= 20  # 5 % are 10; more than 20 by chance once in a thousand


def test_too_few_rows_and_rows_that_tell_nothing_are_refused() -> None:
    graded, features = foreseen_rows(60)
    with pytest.raises(SettingsError, match="more rows"):
        learn(features, split(graded), -0.5, Promise(0.01, 0.05), "e")
    with pytest.raises(SettingsError, match="nearly all"):
        learn(features, split(graded), -9.0, Promise(0.05, 0.05), "e")


async def test_encodes_each_question_as_it_is_asked() -> None:
    items = [Item(f"q{n}", HARD if n % 2 else EASY, ("x",)) for n in range(70)]
    found = await encode(FakeEncoder(), items)
    assert len(found) == 70
    assert {values[-2] for name, values in found.items() if int(name[1:]) % 2} == {1.0}
    assert len(found["q0"]) == len(feature_names(2))
