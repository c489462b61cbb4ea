"""One front door for a file of tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.proxy.api.front_door import FrontDoor, front_door


@pytest.fixture(scope="package")
def door() -> Iterator[FrontDoor]:
    """A front door with short times, so that the slow are found out soon."""
    env = {
        "HEAD_TIMEOUT_S": "1",
        "TEST_BODY_TIMEOUT_S": "1",
        "TEST_KEEP_ALIVE_S": "0.2",
        "RINGFENCE_MAX_BODY_BYTES": str(2**20),
    }
    with front_door(env) as running:
        yield running
