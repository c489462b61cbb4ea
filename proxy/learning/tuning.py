"""The training itself: the upper layers of a model learn the answers of pairs.

Cross-entropy on the tokens of the answer alone, AdamW, a linear warm-up and decay. What lies below
the layers that learn never changes, so it is computed once for each pair and not in each epoch; the
output layer is computed for the tokens of the answer alone. It opens no connection.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

from proxy.errors import LocalBackendError, SettingsError
from proxy.learning.pairs import Pair
from proxy.learning.recipe import Recipe
from proxy.local.engine import chat_ids, load_tokenizer, plain

#: Pairs of nearly equal length share a batch, so that little of it is padding.
_BUCKET_TOKENS: Final = 8

#: Pairs that go through the frozen layers at once.
_FROZEN_BATCH: Final = 16

_WARM_UP: Final = 0.1
_MAX_NORM: Final = 1.0


@dataclass(frozen=True, slots=True)
class Example:
    """A pair as token ids: ``ids`` of shape ``(length,)``, the answer from ``start`` on."""

    ids: torch.Tensor
    start: int


class Tuner:
    """A model in training; ``folder`` holds it, ``template`` takes the place of its own."""

    def __init__(
        self, folder: Path, recipe: Recipe, template: str | None = None, threads: int = 1
    ) -> None:
        """Load the model.

        Raises:
            LocalBackendError: it cannot be loaded, or is of a kind that has no upper layers here.
        """
        transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
        transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        torch.set_num_threads(threads)
        torch.manual_seed(recipe.seed)
        self._recipe = recipe
        try:
            self.tokenizer: Any = load_tokenizer(folder)
            self._model: Any = AutoModelForCausalLM.from_pretrained(
                folder, dtype=torch.float32, local_files_only=True, use_safetensors=True
            )
        except (OSError, ValueError):
            raise LocalBackendError(f"There is no model that can be loaded in {folder}.") from None
        if template is not None:
            self.tokenizer.chat_template = template
        self._whole = _layers_of(self._model)
        self._norm = self._model.model.norm
        self._first = max(0, len(self._whole) - recipe.layers)
        self._model.requires_grad_(False)
        self._learning = [*self._whole[self._first :].parameters(), *self._norm.parameters()]
        for weights in self._learning:
            weights.requires_grad_(True)
        self._optimizer = torch.optim.AdamW(
            self._learning, lr=recipe.learning_rate, weight_decay=0.0
        )
        self._examples: list[Example] = []
        self._below: list[torch.Tensor] = []
        self.step = 0

    @property
    def num_steps(self) -> int:
        """Steps of the whole training."""
        return self.num_batches * self._recipe.epochs

    @property
    def num_batches(self) -> int:
        """Steps of one epoch."""
        return -(-len(self._examples) // self._recipe.batch_size)

    def read(self, pairs: Sequence[Pair], tick: Callable[[int], None]) -> int:
        """Take in the pairs, and compute what lies below the layers that learn, once.

        ``tick`` hears how many are through. Returns how many are too long, and left out.
        """
        told = [self._example(pair) for pair in pairs]
        self._examples = [one for one in told if len(one.ids) <= self._recipe.max_tokens]
        self._examples.sort(key=lambda one: len(one.ids))
        if not self._examples:
            raise SettingsError("every pair is longer than --max-tokens")
        self._model.eval()  # no dropout below
        self._use(self._whole[: self._first], torch.nn.Identity())
        with torch.no_grad():
            for start in range(0, len(self._examples), _FROZEN_BATCH):
                part = self._examples[start : start + _FROZEN_BATCH]
                ids = pad_sequence([one.ids for one in part], batch_first=True)
                out = self._model.model(input_ids=ids, use_cache=False).last_hidden_state
                self._below += [out[row, : len(one.ids)].clone() for row, one in enumerate(part)]
                tick(len(self._below))
        self._use(self._whole[self._first :], self._norm)
        self._model.train()
        return len(told) - len(self._examples)

    def train_step(self) -> float:
        """One step; the mean loss of its tokens. The batches follow from seed and step alone."""
        batch = self._batch()
        logits, wanted = self._answers(batch)
        loss = torch.nn.functional.cross_entropy(logits, wanted)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self._learning, _MAX_NORM)
        warm = (self.step + 1) / max(1.0, _WARM_UP * self.num_steps)
        share = min(1.0, warm) * (1 - self.step / self.num_steps)
        for group in self._optimizer.param_groups:
            group["lr"] = self._recipe.learning_rate * share
        self._optimizer.step()
        self._optimizer.zero_grad()
        self.step += 1
        return loss.item()

    def state(self) -> dict[str, Any]:
        """What a later `restore` needs to go on from here."""
        return {
            "step": self.step,
            "weights": [one.detach() for one in self._learning],
            "optimizer": self._optimizer.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from ``state``."""
        with torch.no_grad():
            for ours, theirs in zip(self._learning, state["weights"], strict=True):
                ours.copy_(theirs)
        self._optimizer.load_state_dict(state["optimizer"])
        self.step = int(state["step"])

    def save(self, folder: Path) -> None:
        """Write model and tokenizer, in bfloat16 as the embedded model is."""
        self._use(self._whole, self._norm)
        self._model.eval()
        self._model.to(torch.bfloat16).save_pretrained(folder, max_shard_size="1TB")
        self.tokenizer.save_pretrained(folder)

    def _use(self, layers: Any, norm: Any) -> None:
        """Make the model consist of ``layers`` and ``norm``."""
        self._model.model.layers = layers
        self._model.model.norm = norm
        self._model.model.config.num_hidden_layers = len(layers)

    def _example(self, pair: Pair) -> Example:
        prompt = chat_ids(self.tokenizer, pair.messages)
        said = plain(pair.answer) + str(self.tokenizer.eos_token)
        answer = self.tokenizer(said, add_special_tokens=False)["input_ids"]
        return Example(torch.tensor([*prompt, *answer]), len(prompt))

    def _batch(self) -> list[int]:
        """The examples of the next step."""
        epoch, place = divmod(self.step, self.num_batches)
        chance = random.Random(f"{self._recipe.seed}:{epoch}")  # noqa: S311  (an order, no secret)
        order = list(range(len(self._examples)))
        chance.shuffle(order)
        order.sort(key=lambda one: len(self._examples[one].ids) // _BUCKET_TOKENS)
        size = self._recipe.batch_size
        batches = [order[start : start + size] for start in range(0, len(order), size)]
        chance.shuffle(batches)
        return batches[place]

    def _answers(self, batch: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits before each token of the answers, and these tokens."""
        below = pad_sequence([self._below[one] for one in batch], batch_first=True)
        out = self._model.model(inputs_embeds=below, use_cache=False).last_hidden_state
        before, wanted = [], []
        for row, one in enumerate(batch):
            example = self._examples[one]
            before.append(out[row, example.start - 1 : len(example.ids) - 1])
            wanted.append(example.ids[example.start :])
        return self._model.lm_head(torch.cat(before)), torch.cat(wanted)


def _layers_of(model: Any) -> Any:
    """The layers of a decoder of the common build (Llama, SmolLM, Mistral, Qwen).

    Raises:
        LocalBackendError: it is built otherwise, or its layers are not of one kind.
    """
    inner = getattr(model, "model", None)
    kinds = set(getattr(model.config, "layer_types", None) or [])
    common = all(hasattr(inner, name) for name in ("layers", "norm", "embed_tokens"))
    if not common or len(kinds) > 1:
        raise LocalBackendError(
            "This kind of model cannot be fine-tuned here: it is not built as Llama is. "
            "Any folder that another tool fine-tuned can be served: set RINGFENCE_MODEL_DIR."
        )
    return inner.layers  # type: ignore[union-attr]
