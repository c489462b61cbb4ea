"""A process that does what a proxy worker does to a ledger, as fast as it can, until it is killed.

It stands apart from the proxy: intent, permit redeemed, the request to a recording upstream (a line
with the intent's id on a Unix socket), outcome.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from audit.ledger import Ledger
from tests.audit.test_ledger import ORIGIN, an_intent, an_outcome

NUM_CALLERS = 4


async def _call(ledger: Ledger, socket: str) -> None:
    _, upstream = await asyncio.open_unix_connection(socket)
    while True:
        permit = await ledger.intent(an_intent(), b"body", ORIGIN)
        permit.redeem(b"body", ORIGIN)
        upstream.write(f"{permit.intent_id}\n".encode())
        await upstream.drain()
        await ledger.outcome(an_outcome(permit))


async def _work(folder: Path, socket: str) -> None:
    ledger = Ledger.open(folder / "ledger", keys_dir=folder / "keys", seal_every_s=0.02)
    await asyncio.gather(*(_call(ledger, socket) for _ in range(NUM_CALLERS)))


def hammer(folder: str, socket: str) -> None:
    """Never returns."""
    asyncio.run(_work(Path(folder), socket))


if __name__ == "__main__":
    hammer(*sys.argv[1:3])
