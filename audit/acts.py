"""Acts of people on the ledger, each on the record: a review, a destroyed key, an export.

An act writes a short chain of its own, beside those of running proxies.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from audit.errors import AuditError
from audit.ledger import Ledger
from audit.query import Filter, query, uninspected_egress
from audit.record import EventRecord, fields_of
from audit.replay import stored_heads
from audit.stores.address import open_store
from audit.stores.store import LedgerStore

Detail = Mapping[str, str | int | float | bool]

#: Kinds that somebody should look at; beside them, egresses that were not inspected to their end.
WANT_REVIEW: Final = (
    "recovery",
    "policy.rejected",
    "egress.switch",
    "hmac_key.destroyed",
    "erasure",
)


class UnknownRecord(AuditError):
    """There is no record of that id."""

    code = "unknown_record"


class UnfitWord(AuditError):
    """A word would not stand in the record as it was given."""

    code = "unfit_word"


def record_acts(
    ledger: Path, keys_dir: Path, kind: str, details: Iterable[Detail], url: str | None = None
) -> None:
    """Record something that a person did, once for each of ``details``.

    Args:
        ledger: the ledger's folder; for one in a database a copy of it.
        keys_dir: where its keys live, or the secret of those in the database.
        kind: what was done.
        details: what is said of it.
        url: the database, if the ledger stands in one.

    Raises:
        UnfitWord: a record would hold ``other`` in place of what was said; nothing was recorded.
        AuditError: it is not durable.
    """
    details = list(details)
    for detail in details:
        check_words(kind, detail)
    asyncio.run(_record(ledger, lambda: open_store(url, ledger, keys_dir), kind, details))


async def _record(
    ledger: Path, store: Callable[[], LedgerStore], kind: str, details: Iterable[Detail]
) -> None:
    newest = next(iter(stored_heads(ledger, newest_first=True)), None)
    if newest is None:
        raise UnknownRecord("there is no ledger to write to")
    deployment = newest.origin.rpartition("/")[0]
    opened = Ledger.open_store(store(), deployment)
    try:
        for detail in details:
            await opened.event(kind, detail)
    finally:
        await opened.close()


def check_words(kind: str, detail: Detail) -> None:
    """Refuse what would not stand in a record as it was given, such as a name with an umlaut.

    Raises:
        UnfitWord: it would become ``other``.
    """
    if fields_of(EventRecord(kind, tuple(detail.items())))["detail"] != dict(detail):
        raise UnfitWord("a word of it has no form that a record takes: ASCII, or a staff number")


def destroy_digest_key(
    ledger: Path, keys_dir: Path, name: str, by: str, url: str | None = None
) -> None:
    """Destroy the digest key ``name`` and record ``hmac_key.destroyed``; may be done again.

    Raises:
        KeyKept: it is no key of a past month, or there never was one.
        AuditError: it is destroyed, but that is not on the record.
        OSError: it could not be destroyed.
    """
    check_words("hmac_key.destroyed", {"by": by})  # what cannot be recorded is not done
    with contextlib.closing(open_store(url, ledger, keys_dir)) as store:
        store.keys.destroy(name)
    record_acts(ledger, keys_dir, "hmac_key.destroyed", [{"key": name, "by": by}], url)


def review(
    ledger: Path, keys_dir: Path, ids: Iterable[str], detail: Detail, url: str | None = None
) -> None:
    """Record that the records ``ids`` were looked at, with what ``detail`` says.

    Raises:
        UnknownRecord: one of them is not there; nothing was recorded.
        AuditError: it is not durable.
        OSError: the ledger cannot be read.
    """
    ids = list(dict.fromkeys(ids))
    for id_ in ids:
        if not query(ledger, Filter(id=id_), limit=1):
            raise UnknownRecord(f"there is no record {id_}")
    record_acts(ledger, keys_dir, "review", [{"of": id_, **detail} for id_ in ids], url)


def unreviewed(ledger: Path) -> list[dict[str, Any]]:
    """Records that somebody should look at and nobody has signed off, oldest first.

    Raises:
        OSError: the ledger cannot be read.
    """
    reviews = query(ledger, Filter(kind="review"))
    done = {json.loads(row["detail"]).get("of") for row in reviews}
    found = uninspected_egress(ledger, Filter()) + query(ledger, Filter(sent="unknown"))
    for kind in WANT_REVIEW:
        found += query(ledger, Filter(kind=kind))
    for row in found:
        row.setdefault("kind", "egress.intent")
        row.setdefault("why", "nobody knows whether it was sent" if row.get("sent") else None)
    return sorted((row for row in found if row["id"] not in done), key=lambda row: row["time"])
