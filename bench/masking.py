"""What putting values back costs a stream: `python -m bench.masking`.

Measures the restorer alone, chunk by chunk, and all that is done to a chunk of a chat that flows,
on answers of a stand-in that speaks of people by their placeholders.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator

from proxy.egress.chunks import ChunkRestorer
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
    arguments = json.dumps({"text": json.dumps({"inner": prose})})
    works: dict[str, tuple[str, Callable[[], Callable[[str], object]]]] = {
        "prose": (prose, lambda: Restorer(vault).feed),
        "arguments": (arguments, lambda: Restorer(vault).feed),
        "prose in a chat": (prose, lambda: _chat(vault)),
    }
    print("| text | chunk (characters) | chunks | median (µs) | p99 (µs) | worst (µs) |")
    print("|---|---|---|---|---|---|")
    for name, (text, begin) in works.items():
        for size in CHUNK_CHARS:
            times = sorted(_times(begin(), text, size))
            p99 = times[int(len(times) * 0.99)]
            middle = statistics.median(times)
            print(
                f"| {name} | {size} | {len(times)} | {middle:.0f} | {p99:.0f} | {times[-1]:.0f} |"
            )


def _chat(vault: Vault) -> Callable[[str], object]:
    """What is done to a chunk that adds a piece to the content of a chat."""
    restorer = ChunkRestorer(vault)
    return lambda piece: list(
        restorer.choices([{"index": 0, "delta": {"content": piece}, "finish_reason": None}])
    )


def _times(work: Callable[[str], object], text: str, size: int) -> Iterator[float]:
    """Microseconds of processor time for each chunk: what others run meanwhile is not ours."""
    for start in range(0, len(text), size):
        began = time.thread_time()
        work(text[start : start + size])
        yield (time.thread_time() - began) * 1e6


if __name__ == "__main__":
    main()
