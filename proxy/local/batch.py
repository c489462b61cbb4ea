"""The rows of one batch: their keys and values, joined and parted between two steps.

Rows are left-padded to one length. A prompt is read in chunks, alone, and its keys and values are
joined to the batch when it is through, so that a long prompt does not stop the others for long.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache

#: Keys and values of a layer, each ``(rows, heads, length, dim)``.
Layer = tuple[torch.Tensor, torch.Tensor]


class Prefill:
    """A prompt on its way into the keys and values of one row."""

    def __init__(self, model: Any, prompt_ids: Sequence[int], device: str) -> None:
        self._model = model
        self._ids = torch.tensor([list(prompt_ids)], device=device)
        self._cache: Any = DynamicCache()
        self._num_read = 0
        self.logits = torch.empty(0)

    @property
    def num_left(self) -> int:
        """Prompt tokens still to be read."""
        return self._ids.shape[1] - self._num_read

    @property
    def layers(self) -> list[Layer]:
        """What was read so far, of one row."""
        return [(layer.keys, layer.values) for layer in self._cache.layers]

    def read(self, num_tokens: int) -> int:
        """Read up to ``num_tokens`` more; how many it were."""
        chunk = self._ids[:, self._num_read : self._num_read + num_tokens]
        out = self._model(
            input_ids=chunk, past_key_values=self._cache, use_cache=True, logits_to_keep=1
        )
        self._num_read += chunk.shape[1]
        self.logits = out.logits[:, -1]
        return int(chunk.shape[1])


class Batch:
    """The rows under way, and the logits of each one's next token, ``(rows, vocabulary)``."""

    def __init__(self, model: Any, device: str) -> None:
        self._model = model
        self._device = device
        self._layers: list[Layer] = []
        self._lengths: list[int] = []
        self.logits = torch.empty(0)

    def join(self, row: Prefill, length: int) -> None:
        """Add a row of ``length`` tokens; it becomes the last one."""
        if self._lengths:
            width = max(*self._lengths, length)
            self._layers = [
                (
                    torch.cat([_left_pad(old[0], width), _left_pad(new[0], width)]),
                    torch.cat([_left_pad(old[1], width), _left_pad(new[1], width)]),
                )
                for old, new in zip(self._layers, row.layers, strict=True)
            ]
            self.logits = torch.cat([self.logits, row.logits])
        else:
            self._layers, self.logits = row.layers, row.logits
        self._lengths.append(length)

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all rows but ``rows``, and the padding that nobody needs any more."""
        if len(rows) == len(self._lengths):
            return
        self._lengths = [self._lengths[row] for row in rows]
        width = max(self._lengths, default=0)
        index = torch.tensor(list(rows), dtype=torch.long, device=self._device)
        self._layers = [(k[index, :, -width:], v[index, :, -width:]) for k, v in self._layers]
        self.logits = self.logits[index]
        if not rows:
            self.clear()

    def clear(self) -> None:
        """Drop every row."""
        self._layers, self._lengths, self.logits = [], [], torch.empty(0)

    def advance(self, ids: Sequence[int]) -> None:
        """Feed one token ``ids[row]`` to each row."""
        width = max(self._lengths)
        lengths = torch.tensor(self._lengths, device=self._device)
        columns = torch.arange(width + 1, device=self._device)
        out = self._model(
            input_ids=torch.tensor([[id_] for id_ in ids], device=self._device),
            attention_mask=(columns[None, :] >= (width - lengths)[:, None]).long(),
            position_ids=lengths[:, None],
            past_key_values=DynamicCache(ddp_cache_data=self._layers),
            use_cache=True,
        )
        self._layers = [(layer.keys, layer.values) for layer in out.past_key_values.layers]
        self._lengths = [length + 1 for length in self._lengths]
        self.logits = out.logits[:, -1]


def choose(
    logprobs: torch.Tensor, temperature: float, top_p: float, random: torch.Generator
) -> int:
    """A token id from ``logprobs`` of shape ``(vocabulary,)``; temperature 0 takes the likeliest.

    Source: nucleus sampling, Holtzman et al. 2020 (arXiv 1904.09751), section 3.1.
    """
    if temperature <= 0:
        return int(logprobs.argmax())
    probs = torch.softmax(logprobs / temperature, dim=-1).cpu()
    if top_p < 1:
        ordered, order = probs.sort(descending=True)
        beyond = ordered.cumsum(-1) - ordered >= top_p
        beyond[0] = False
        probs[order[beyond]] = 0
    return int(torch.multinomial(probs, 1, generator=random))


def _left_pad(tensor: torch.Tensor, width: int) -> torch.Tensor:
    """``tensor`` of shape (rows, heads, length, dim), zeros on the left up to ``width``."""
    return torch.nn.functional.pad(tensor, (0, 0, width - tensor.shape[2], 0))
