"""Measures the ledger on this machine's disk: intents a second, latency, verification, query.

python -m bench.ledger [--folder DIR] [--seconds 5] [--records 1000000] [--postgres URL]
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from audit.ledger import Ledger
from audit.query import Filter, query
from audit.record import IntentRecord, TransferRecord
from audit.stores.address import open_store
from audit.verify import verify

_ORIGIN = "https://cloud.example:443"
_INTENT = IntentRecord(
    decision_id="dec_" + "0" * 28,
    attempt=1,
    destination="eu",
    provider="openai",
    address="cloud.example",
    port=443,
    region="eu",
    model="gpt-4o",
    transfer=TransferRecord("Example Ltd", "IE", "intra_eea", "zero", training=False),
    strings_cleared=3,
    masked=(("PERSON", 2),),
)
_BODY = b"x" * 1800


async def _caller(ledger: Ledger, until: float, laps_ms: list[float]) -> None:
    while (begun := time.perf_counter()) < until:
        await ledger.intent(_INTENT, _BODY, _ORIGIN)
        laps_ms.append((time.perf_counter() - begun) * 1000)


async def _measure(ledger: Ledger, num_callers: int, seconds: float) -> None:
    laps_ms: list[float] = []
    begun = time.perf_counter()
    until = begun + seconds
    await asyncio.gather(*(_caller(ledger, until, laps_ms) for _ in range(num_callers)))
    elapsed = time.perf_counter() - begun
    laps_ms.sort()
    p50, p99 = (laps_ms[int(len(laps_ms) * part)] for part in (0.5, 0.99))
    print(
        f"{num_callers:3d} callers: {len(laps_ms) / elapsed:7.0f} intents/s, "
        f"p50 {p50:.2f} ms, p99 {p99:.2f} ms"
    )


async def _fill(ledger: Ledger, num_records: int) -> None:
    for _ in range(num_records // 1000):
        await asyncio.gather(*(ledger.event("config", {"setting": "value"}) for _ in range(1000)))


async def _run_postgres(url: str, folder: Path, seconds: float) -> None:
    ledger = await asyncio.to_thread(
        lambda: Ledger.open_store(open_store(url, folder, folder / "keys"))
    )
    print("PostgreSQL:")
    await _measure(ledger, 1, seconds)
    await _measure(ledger, 64, seconds)
    await ledger.close()


async def _run(folder: Path, seconds: float, num_records: int) -> None:
    ledger = Ledger.open(folder / "speed", keys_dir=folder / "keys")
    await _measure(ledger, 1, seconds)
    await _measure(ledger, 64, seconds)
    await ledger.close()
    ledger = Ledger.open(folder / "large", keys_dir=folder / "large-keys")
    await _fill(ledger, num_records)
    await ledger.close()
    begun = time.perf_counter()
    report = verify(folder / "large")
    elapsed = time.perf_counter() - begun
    print(f"verify: {report.num_records} records in {elapsed:.1f} s, sound: {report.is_sound}")
    hour_ago = datetime.now(UTC) - timedelta(hours=1)
    begun = time.perf_counter()
    rows = query(folder / "large", Filter(since=hour_ago, kind="chain.opened"), 100)
    print(f"query: {len(rows)} found among them in {time.perf_counter() - begun:.1f} s")


def main() -> None:
    """Run the measurements in a folder that is removed afterwards."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where to write; the disk that is measured")
    parser.add_argument("--postgres", help="measure a ledger at this URL too; it is written to")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--records", type=int, default=1_000_000)
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="ringfence-bench-", dir=args.folder))
    try:
        asyncio.run(_run(folder, args.seconds, args.records))
        if args.postgres:
            asyncio.run(_run_postgres(args.postgres, folder, args.seconds))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
