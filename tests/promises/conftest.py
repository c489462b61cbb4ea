"""One proxy in front of one stand-in cloud for a whole file; threshold 0 escalates every draft."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from demo.stand_in_cloud import Reply, StandInCloud
from tests.harness import RunningProxy, running_proxy


@pytest.fixture(scope="module")
def _cloud() -> Iterator[StandInCloud]:
    with StandInCloud() as cloud:
        yield cloud


@pytest.fixture
def cloud(_cloud: StandInCloud) -> StandInCloud:
    """The stand-in, with nothing recorded yet and well-behaved."""
    _cloud.requests.clear()
    _cloud.reply = lambda _: Reply()
    return _cloud


@pytest.fixture(scope="module")
def proxy(
    _cloud: StandInCloud, local_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningProxy]:
    """A proxy in front of the stand-in."""
    env = {
        "RINGFENCE_LOCAL_BASE_URL": local_url,
        "RINGFENCE_EXPOSE_ROUTE_HEADERS": "true",
        "RINGFENCE_EXPOSE_METRICS": "true",
    }
    with running_proxy(tmp_path_factory.mktemp("proxy"), _cloud.base_url, env) as running:
        yield running
