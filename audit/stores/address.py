"""Where a ledger is: a folder, or a database by its URL. The driver is loaded where it is used."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path
from typing import Final

from audit.errors import AuditError, LedgerUnwritable
from audit.stores.files import FileStore
from audit.stores.store import LedgerStore

_SCHEMES: Final = ("postgresql://", "postgres://")
_COPY: Final = "ringfence-ledger-"
_MISSING: Final = "a ledger in PostgreSQL needs the extra: pip install 'ringfence[postgres]'"


def is_url(address: str) -> bool:
    """Whether ``address`` names a database, not a folder."""
    return address.startswith(_SCHEMES)


def open_store(url: str | None, folder: Path, keys_dir: Path) -> LedgerStore:
    """The store at ``url``, or in ``folder`` where there is none.

    Raises:
        LedgerUnwritable: it is no address of PostgreSQL, or the database cannot be used.
    """
    if url is None:
        return FileStore(folder, keys_dir)
    if not is_url(url):
        raise LedgerUnwritable("the ledger's URL does not begin with postgresql://")
    try:
        from audit.stores.postgres import PostgresStore
    except ModuleNotFoundError:
        raise LedgerUnwritable(_MISSING) from None
    return PostgresStore(url, keys_dir)


def excess_rights(url: str) -> list[str]:
    """What the role of ``url`` may do to records beyond adding them; none is as it should be.

    Raises:
        AuditError: the database cannot be asked.
    """
    if not is_url(url):
        raise AuditError("the ledger's URL does not begin with postgresql://")
    try:
        from audit.stores.postgres_copy import rights_over_records
    except ModuleNotFoundError:
        raise AuditError(_MISSING) from None
    return rights_over_records(url)


def is_copy(folder: Path) -> bool:
    """Whether ``folder`` is one that `ledger_folder` made: it gets no news."""
    return folder.parent == Path(tempfile.gettempdir()) and folder.name.startswith(_COPY)


def ledger_folder(address: str) -> Path:
    """The folder of a ledger; one in a database is copied into a folder that goes at exit.

    Raises:
        AuditError: the database cannot be read.
        OSError: the copy cannot be written.
    """
    if not is_url(address):
        return Path(address)
    try:
        from audit.stores.postgres_copy import copy_ledger
    except ModuleNotFoundError:
        raise AuditError(_MISSING) from None
    folder = Path(tempfile.mkdtemp(prefix=_COPY))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    copy_ledger(address, folder)
    return folder
