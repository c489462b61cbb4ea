"""A database for each test that asks for one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.audit.stores.database import Database, Wire, a_database, server_or_skip


@pytest.fixture
def database() -> Iterator[Database]:
    """A fresh ledger database on a real server."""
    with a_database(server_or_skip()) as made:
        yield made


@pytest.fixture
def wire(database: Database) -> Iterator[Wire]:
    """A wire to it, for the writer."""
    made = Wire(database.writer)
    yield made
    made.close()
