"""A process that does what a proxy worker does to a ledger, as fast as it can, until it is killed.

It stands apart from the proxy: intent, permit redeemed, the request to a recording upstream (a line
with the intent's id on a Unix socket), outcome.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from audit.capture_keys import load_public_key
from audit.ledger import Ledger
from audit.stores.address import open_store
from audit.vault import VAULT, Vault
from tests.audit.test_ledger import ORIGIN, an_intent, an_outcome

NUM_CALLERS = 4

#: An auditor's public key of this name beside the ledger has every body and answer captured.
CAPTURE_KEY = "capture.pub"


async def _call(ledger: Ledger, socket: str) -> None:
    _, upstream = await asyncio.open_unix_connection(socket)
    while True:
        permit = await ledger.intent(an_intent(), b"body", ORIGIN)
        permit.redeem(b"body", ORIGIN)
        upstream.write(f"{permit.intent_id}\n".encode())
        await upstream.drain()
        await ledger.outcome(an_outcome(permit), b"answer", keep=True)


async def _work(folder: Path, socket: str, url: str | None) -> None:
    store = open_store(url, folder / "ledger", folder / "keys")
    key = folder / CAPTURE_KEY
    vault = Vault(folder / "ledger" / VAULT, load_public_key(key)) if key.exists() else None
    ledger = Ledger.open_store(store, seal_every_s=0.02, vault=vault)
    await asyncio.gather(*(_call(ledger, socket) for _ in range(NUM_CALLERS)))


def hammer(folder: str, socket: str, url: str | None = None) -> None:
    """Never returns. The ledger is in ``folder``, or in the database at ``url``."""
    asyncio.run(_work(Path(folder), socket, url))


if __name__ == "__main__":
    hammer(*sys.argv[1:3])
