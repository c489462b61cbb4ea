"""What all tests share: one embedded model server for the whole run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from proxy.local.embedded import EmbeddedServer
from tests.harness import model_dir


@pytest.fixture(scope="session")
def local_url() -> Iterator[str]:
    """The root of a real embedded model server."""
    with EmbeddedServer(model_dir(), "smollm2-135m-instruct") as server:
        yield server.base_url
