"""How to train: the settings that a fine-tuned model's manifest tells."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train.

    ``layers`` is how many of the upper layers learn; ``max_tokens`` the longest pair, question and
    answer together. Source of ``epochs``: the paper. The rest: pilots on the embedded model.
    """

    epochs: int = 3
    learning_rate: float = 3e-4
    batch_size: int = 8
    layers: int = 6
    seed: int = 0
    max_tokens: int = 1024
