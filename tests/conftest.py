"""What all tests share: one embedded model server for the whole run, and what streams wait for."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator

import pytest

from proxy.local.embedded import EmbeddedServer
from tests.harness import encoder_dir, model_dir


@pytest.fixture(scope="session")
def local_url() -> Iterator[str]:
    """The root of a real embedded model server."""
    with EmbeddedServer(model_dir(), "smollm2-135m-instruct", encoder_dir=encoder_dir()) as server:
        yield server.base_url


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Shut until the test opens it, or is over."""
    gate = threading.Event()
    yield gate
    gate.set()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Name a failed test at once: the whole suite takes long, and its summary comes at the end."""
    if report.failed and "PYTEST_XDIST_WORKER" not in os.environ:
        print(f"\nFAILED {report.nodeid} ({report.when})", file=sys.stderr, flush=True)
