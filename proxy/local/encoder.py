"""The embedded encoder: texts to vectors, with a small model that runs anywhere.

It is loaded at the first request, in the server's process, and keeps no text. Only this module,
`engine.py`, `batch.py` and `model.py` import torch and transformers.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch
from transformers import AutoModel, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

#: Tokens the model was trained to read at once (`sentence_bert_config.json` of the model).
WINDOW_TOKENS: Final = 256

#: Longest text, in tokens: OpenAI's own limit for embeddings, so that what runs there runs here.
MAX_TEXT_TOKENS: Final = 8192

_BATCH_WINDOWS: Final = 32


class TextTooLong(Exception):
    """A text holds more than `MAX_TEXT_TOKENS` tokens."""


class Encoder:
    """Mean-pooled, normalized sentence vectors; one request at a time.

    Source: the model card of sentence-transformers/all-MiniLM-L6-v2. A text longer than one window
    is the average of its windows' vectors, weighted by length, as OpenAI's cookbook does it
    ("Embedding texts that are longer than the model's maximum context length").
    """

    def __init__(self, folder: Path) -> None:
        transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
        transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        tokenizer: Any = PreTrainedTokenizerFast
        self._tokenizer: Any = tokenizer.from_pretrained(folder, local_files_only=True)
        model: Any = AutoModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32
        )
        self._model = model.eval()
        self._lock = threading.Lock()
        # The tokenizer's own truncation would cut a text in silence.
        self._tokenizer.backend_tokenizer.no_truncation()
        self._tokenizer.backend_tokenizer.no_padding()

    @property
    def num_dimensions(self) -> int:
        """Length of a vector."""
        return int(self._model.config.hidden_size)

    def encode(self, texts: Sequence[str]) -> tuple[list[list[float]], int]:
        """Vectors of shape ``(len(texts), num_dimensions)``, each of length 1; and the tokens read.

        Raises:
            TextTooLong: one of ``texts`` is.
        """
        ids = [
            list(self._tokenizer(text, add_special_tokens=False, truncation=False)["input_ids"])
            for text in texts
        ]
        if any(len(one) > MAX_TEXT_TOKENS for one in ids):
            raise TextTooLong
        size = WINDOW_TOKENS - 2  # for [CLS] and [SEP]
        windows = [
            (text, one[start : start + size])
            for text, one in enumerate(ids)
            for start in range(0, max(len(one), 1), size)
        ]
        with self._lock, torch.inference_mode():
            vectors = torch.cat(
                [
                    self._read([window for _, window in windows[start : start + _BATCH_WINDOWS]])
                    for start in range(0, len(windows), _BATCH_WINDOWS)
                ]
            )
            owners = torch.tensor([text for text, _ in windows])
            weights = torch.tensor([[float(max(len(window), 1))] for _, window in windows])
            sums = torch.zeros(len(ids), vectors.shape[1])
            sums.index_add_(0, owners, vectors * weights)
            told = torch.nn.functional.normalize(sums, dim=1)
        return told.tolist(), sum(map(len, ids))

    def _read(self, windows: Sequence[Sequence[int]]) -> torch.Tensor:
        """Normalized means over the tokens of each window, ``(len(windows), num_dimensions)``."""
        begin, end = self._tokenizer.cls_token_id, self._tokenizer.sep_token_id
        rows = [[begin, *window, end] for window in windows]
        width = max(map(len, rows))
        pad = self._tokenizer.pad_token_id
        ids = torch.tensor([[*row, *[pad] * (width - len(row))] for row in rows])
        mask = torch.tensor([[1.0] * len(row) + [0.0] * (width - len(row)) for row in rows])
        hidden = self._model(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        means = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return torch.nn.functional.normalize(means, dim=1)
