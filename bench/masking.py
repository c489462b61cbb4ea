"""What putting values back costs a stream: `python -m bench.masking`.

Measures the restorer alone, chunk by chunk, on answers of a stand-in that speaks of people by their
placeholders.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator

from proxy.egress.placeholders import Vault
from proxy.egress.restore import Restorer

ENTITIES = ("PERSON", "EMAIL_ADDRESS", "PHONE_NUMBER", "IBAN_CODE", "LOCATION")
NUM_VALUES = 200
NUM_SENTENCES = 2_000

#: About a token of a usual model, and the pieces in which a proxy's stream tells an answer.
CHUNK_CHARS = (4, 24, 400)


def main() -> None:
    """Print the time a chunk takes, for prose and for the arguments of a tool call."""
    vault = Vault("")
    tokens = [
        vault.token_for(ENTITIES[number % len(ENTITIES)], f'Value "{number}"\n')
        for number in range(NUM_VALUES)
    ]
    prose = "".join(
        f"Write to {tokens[number % NUM_VALUES]} about <b>order {number}</b>. "
        for number in range(NUM_SENTENCES)
    )
    texts = {"prose": prose, "arguments": json.dumps({"text": json.dumps({"inner": prose})})}
    print("| text | chunk (characters) | chunks | median (µs) | p99 (µs) | worst (µs) |")
    print("|---|---|---|---|---|---|")
    for name, text in texts.items():
        for size in CHUNK_CHARS:
            times = sorted(_times(vault, text, size))
            p99 = times[int(len(times) * 0.99)]
            middle = statistics.median(times)
            print(
                f"| {name} | {size} | {len(times)} | {middle:.0f} | {p99:.0f} | {times[-1]:.0f} |"
            )


def _times(vault: Vault, text: str, size: int) -> Iterator[float]:
    """Microseconds of processor time for each chunk: what others run meanwhile is not ours."""
    restorer = Restorer(vault)
    for start in range(0, len(text), size):
        began = time.thread_time()
        restorer.feed(text[start : start + size])
        yield (time.thread_time() - began) * 1e6


if __name__ == "__main__":
    main()
