"""The cap on cloud attempts."""

from __future__ import annotations

from proxy.egress.limit import AttemptLimit


def test_gives_room_again_a_minute_later() -> None:
    now = [0.0]
    limit = AttemptLimit(2, clock=lambda: now[0])
    assert [limit.take() for _ in range(3)] == [True, True, False]
    assert not limit.has_room
    now[0] = 59.9
    assert not limit.take()
    now[0] = 60.0
    assert limit.take()
