"""An answer that is held until all lines of its batch have one; see `proxy.routing.plan`.

Numbers and names of our own configuration, and no text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

#: In place of a model's name, where a plan has yet to say which: nothing leaves.
HOLD: Final = ""


@dataclass(frozen=True, slots=True)
class Held:
    """What a plan may know of a request that was answered at home, and might leave.

    ``is_answered``: the local model could. ``features`` are those of the learned estimator
    (`proxy.routing.features`); None: the draft tells nothing of itself. ``reach`` are pairs of a
    cloud model and the id of a destination of its decision that has it. ``prompt_tokens`` is a
    count by the local model, or an estimate; ``num_answers`` are as many as its client wants.
    """

    is_answered: bool
    features: tuple[float | None, ...] | None
    prompt_tokens: int
    reach: tuple[tuple[str, str], ...]
    num_answers: int = 1
