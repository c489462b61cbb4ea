"""The stand-in for a local endpoint."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from demo.stand_in_cloud import StandInCloud


@pytest.fixture
def server() -> Iterator[StandInCloud]:
    with StandInCloud() as server:
        yield server
