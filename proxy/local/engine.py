"""The embedded model: token by token, many requests in one batch, each joining and leaving at will.

It keeps no text beyond the life of a request. Only this module, `batch.py`, `model.py` and
`proxy/learning/tuning.py` import torch and transformers.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from proxy.local.batch import Batch, Prefill, choose
from proxy.local.spelling import Speller, piece_bytes
from proxy.local.wishes import Sampling

MAX_BATCH: Final = 16
#: Jobs that wait; those of one caller have at most half of the room.
MAX_WAITING: Final = 512

#: Rows times the longest row; bounds the keys and values (46 kB a token in float32 for SmolLM2).
MAX_BATCH_TOKENS: Final = 65_536

#: Rows more, and of these tokens so many, for a caller that has nothing inside yet.
GUEST_ROWS: Final = 2
GUEST_TOKENS: Final = MAX_BATCH_TOKENS // 8

#: Prompt tokens read between two steps of the batch: what a newcomer may cost the others.
PREFILL_TOKENS: Final = 256

#: Tokens of an answer whose client names no limit.
DEFAULT_MAX_TOKENS: Final = 512

#: OpenAI's own stand-in for a log-probability that is not a number JSON can hold.
_LEAST_LOGPROB: Final = -9999.0


class EngineFull(Exception):
    """Too many requests wait already, or too many of this caller."""


class TooLong(Exception):
    """The prompt and the wanted answer do not fit the model's context."""


@dataclass(frozen=True, slots=True)
class TokenChoice:
    """A chosen token with its log-probability (natural log, of the model's own distribution, before
    temperature) and the ``num_top`` likeliest alternatives.
    """

    data: bytes = field(repr=False)
    logprob: float
    top: tuple[tuple[bytes, float], ...] = field(repr=False, default=())


@dataclass(frozen=True, slots=True)
class Piece:
    """Text that became final, with the tokens that told it."""

    text: str = field(repr=False)
    tokens: tuple[TokenChoice, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Generation:
    """A finished answer."""

    text: str = field(repr=False)
    tokens: tuple[TokenChoice, ...] = field(repr=False)
    finish_reason: str
    num_prompt_tokens: int
    num_completion_tokens: int


class Job:
    """One request on its way through the batch.

    ``listener`` gets each `Piece` as it is told, in the engine's thread; ``done`` the whole.
    ``caller`` is whose it is: callers take turns.
    """

    def __init__(
        self,
        prompt_ids: Sequence[int],
        sampling: Sampling,
        max_tokens: int,
        listener: Callable[[Piece], None] | None = None,
        caller: str = "",
    ) -> None:
        self.caller = caller
        self.prompt_ids = list(prompt_ids)
        self.sampling = sampling
        self.max_tokens = max_tokens
        self.cancelled = threading.Event()
        self.done: Future[Generation] = Future()
        self.random = torch.Generator()
        self._listener = listener
        self._speller = Speller(sampling.stop)
        self._pieces: list[Piece] = []
        self._untold: list[TokenChoice] = []
        self._num_tokens = 0
        if sampling.seed is not None:
            self.random.manual_seed(sampling.seed)
        else:
            self.random.seed()

    @property
    def num_tokens_at_most(self) -> int:
        """How long its row can become."""
        return len(self.prompt_ids) + self.max_tokens

    def take(self, choice: TokenChoice) -> None:
        """Add a token to the answer; ends it at a stop string or at its longest."""
        self._num_tokens += 1
        self._untold.append(choice)
        self._tell(self._speller.feed(choice.data))
        if self._speller.stopped:
            self.finish("stop")
        elif self._num_tokens >= self.max_tokens:
            self.finish("length")

    def finish(self, reason: str) -> None:
        """End the answer. Tokens whose text a stop string cut off are not part of it."""
        rest = self._speller.finish()
        if self._speller.stopped:
            self._untold.clear()
        if rest or self._untold:
            self._tell(rest, last=True)
        whole = Generation(
            "".join(piece.text for piece in self._pieces),
            tuple(token for piece in self._pieces for token in piece.tokens),
            reason,
            len(self.prompt_ids),
            self._num_tokens,
        )
        with contextlib.suppress(InvalidStateError):  # the one who asked gave it up just now
            self.done.set_result(whole)

    def fail(self, error: BaseException) -> None:
        """End it without an answer; says what kind of fault it was, never its words."""
        with contextlib.suppress(InvalidStateError):
            self.done.set_exception(RuntimeError(type(error).__name__))

    def _tell(self, text: str, *, last: bool = False) -> None:
        if not text and not last:
            return
        piece = Piece(text, tuple(self._untold))
        self._untold.clear()
        self._pieces.append(piece)
        if self._listener is not None:
            self._listener(piece)


class Engine:
    """Runs one model on the CPU or a GPU, in a thread of its own."""

    def __init__(self, folder: Path, *, threads: int | None = None) -> None:
        transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
        transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        if threads:
            torch.set_num_threads(threads)
        self._tokenizer: Any = load_tokenizer(folder)
        backend = json.loads(self._tokenizer.backend_tokenizer.to_str())
        self._byte_level = "ByteLevel" in json.dumps(backend.get("decoder"))
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=best_dtype(self._device), local_files_only=True, use_safetensors=True
        )
        self._model = model.to(self._device).eval()
        self._ends = _end_tokens(self._tokenizer, model)
        self.context_length = int(self._model.config.max_position_embeddings)
        self._waiting: deque[Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._filling: list[tuple[Job, Prefill]] = []
        self._jobs: list[Job] = []
        self._batch = Batch(self._model, self._device)
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def submit(
        self,
        messages: Sequence[tuple[str, str]],
        sampling: Sampling,
        listener: Callable[[Piece], None] | None = None,
        caller: str = "",
    ) -> Job:
        """Queue a conversation of ``(role, text)``; the job's ``done`` holds the answer.

        Raises:
            TooLong: it does not fit the context.
            EngineFull: too many wait.
        """
        return self.submit_ids(self.prompt_ids(messages), sampling, listener, caller)

    def submit_text(self, prompt: str, sampling: Sampling, caller: str = "") -> Job:
        """Queue a bare ``prompt`` to be carried on; raises as `submit` does."""
        ids = self._tokenizer(plain(prompt), add_special_tokens=False)["input_ids"]
        ids = list(ids) or [self._tokenizer.eos_token_id]
        return self.submit_ids(ids, sampling, caller=caller)

    def submit_ids(
        self,
        ids: Sequence[int],
        sampling: Sampling,
        listener: Callable[[Piece], None] | None = None,
        caller: str = "",
    ) -> Job:
        """Queue a prompt of token ids; raises as `submit` does."""
        room = self.context_length - len(ids)
        wanted = sampling.max_tokens
        wanted = min(DEFAULT_MAX_TOKENS, room) if wanted is None else wanted
        if wanted < 1 or wanted > room:
            raise TooLong
        job = Job(ids, sampling, wanted, listener, caller)
        with self._changed:
            if self._is_full_for(caller):
                self._waiting = deque(job for job in self._waiting if not job.cancelled.is_set())
            if self._is_full_for(caller) or self._closed:
                raise EngineFull
            self._waiting.append(job)
            self._changed.notify()
        return job

    def prompt_ids(self, messages: Sequence[tuple[str, str]]) -> list[int]:
        """Token ids of a conversation in the model's own template."""
        return chat_ids(self._tokenizer, messages)

    def close(self) -> None:
        """End the thread after the step under way, and every job with it."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(10)

    def _run(self) -> None:
        with torch.inference_mode():
            while self._admit():
                try:
                    self._fill()
                    if self._jobs:
                        self._step()
                except Exception as error:  # noqa: BLE001  (the boundary: the engine outlives any request)
                    self._drop_all(error)
        self._drop_all(RuntimeError())

    def _admit(self) -> bool:
        """Let waiting jobs in; blocks while there is nothing to do. False: the engine is closed."""
        with self._changed:
            while not (self._closed or self._waiting or self._filling or self._jobs):
                self._changed.wait()
            while self._waiting and self._has_room_for(job := self._next()):
                self._waiting.remove(job)
                if not job.cancelled.is_set():
                    prefill = Prefill(self._model, job.prompt_ids, self._device)
                    self._filling.append((job, prefill))
            return not self._closed

    def _is_full_for(self, caller: str) -> bool:
        """Whether ``caller`` would have more in line than it leaves for others."""
        num_own = sum(job.caller == caller for job in self._waiting)
        return num_own + len(self._waiting) >= MAX_WAITING

    def _next(self) -> Job:
        """The first in line of those whose callers have the fewest inside."""
        inside = Counter(job.caller for job in self._inside())
        return min(self._waiting, key=lambda job: inside[job.caller])

    def _inside(self) -> list[Job]:
        return [*self._jobs, *(job for job, _ in self._filling)]

    def _has_room_for(self, job: Job) -> bool:
        inside = self._inside()
        if not inside:
            return True
        longest = max(other.num_tokens_at_most for other in [*inside, job])
        num_rows = len(inside) + 1
        most_rows, most_tokens = MAX_BATCH, MAX_BATCH_TOKENS - GUEST_TOKENS
        if all(other.caller != job.caller for other in inside):
            most_rows, most_tokens = MAX_BATCH + GUEST_ROWS, MAX_BATCH_TOKENS
        return num_rows <= most_rows and num_rows * longest <= most_tokens

    def _fill(self) -> None:
        """Read some more of the prompts, in turn; what is through joins."""
        left = PREFILL_TOKENS
        while self._filling and left > 0:
            job, prefill = self._filling.pop(0)
            if job.cancelled.is_set():
                continue
            try:
                left -= prefill.read(left)
            except Exception as error:  # noqa: BLE001  (the boundary: one prompt's fault is its own)
                job.fail(error)
                continue
            if prefill.num_left:
                self._filling.append((job, prefill))
            else:
                self._batch.join(prefill, len(job.prompt_ids))
                self._jobs.append(job)

    def _step(self) -> None:
        logprobs = torch.log_softmax(self._batch.logits.float(), dim=-1)
        ids = []
        for row, job in enumerate(self._jobs):
            how = job.sampling
            ids.append(choose(logprobs[row], how.temperature, how.top_p, job.random))
        for row, (job, id_) in enumerate(zip(self._jobs, ids, strict=True)):
            if id_ in self._ends:
                job.finish("stop")
            elif not job.cancelled.is_set():
                job.take(self._choice(id_, logprobs[row], job.sampling.num_top))
        staying = [
            row
            for row, job in enumerate(self._jobs)
            if not (job.done.done() or job.cancelled.is_set())
        ]
        self._jobs = [self._jobs[row] for row in staying]
        self._batch.keep(staying)
        if staying:
            self._batch.advance([ids[row] for row in staying])

    def _choice(self, id_: int, logprobs: torch.Tensor, num_top: int) -> TokenChoice:
        top: tuple[tuple[bytes, float], ...] = ()
        if num_top:
            values, indices = logprobs.topk(num_top)
            top = tuple(
                (self._bytes_of(int(index)), max(float(value), _LEAST_LOGPROB))
                for index, value in zip(indices, values, strict=True)
            )
        return TokenChoice(self._bytes_of(id_), max(float(logprobs[id_]), _LEAST_LOGPROB), top)

    def _bytes_of(self, id_: int) -> bytes:
        piece = self._tokenizer.convert_ids_to_tokens(id_) or ""
        return piece_bytes(piece, byte_level=self._byte_level)

    def _drop_all(self, error: BaseException) -> None:
        """End every job that is inside; those that wait too, once the engine is closed."""
        with self._changed:
            waiting = list(self._waiting) if self._closed else []
            if waiting:
                self._waiting.clear()
        for job in [*self._inside(), *waiting]:
            job.fail(error)
        self._jobs, self._filling = [], []
        self._batch.clear()


def best_dtype(device: str) -> torch.dtype:
    """The number format to compute in: bfloat16 where the processor knows it.

    Elsewhere bfloat16 is emulated: a batch of 16 is eleven times slower than in float32 on a
    processor with AVX2 alone.
    """
    if device != "cpu":
        return torch.bfloat16
    knows = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if knows else torch.float32


def load_tokenizer(folder: Path) -> Any:
    """The folder's tokenizer; by its own file where there is one, which saves two seconds."""
    known = (folder / "tokenizer.json").exists()
    loader: Any = PreTrainedTokenizerFast if known else AutoTokenizer
    return loader.from_pretrained(folder, local_files_only=True)


def _end_tokens(tokenizer: Any, model: Any) -> frozenset[int]:
    """Ids that end an answer: the tokenizer's and whatever the model's own configuration names."""
    named = model.generation_config.eos_token_id
    more = named if isinstance(named, list) else [named]
    ids = (tokenizer.eos_token_id, *more)
    return frozenset(int(id_) for id_ in ids if id_ is not None)


def chat_ids(tokenizer: Any, messages: Sequence[tuple[str, str]]) -> list[int]:
    """Token ids of a conversation of ``(role, text)`` in the tokenizer's own template."""
    prompt = tokenizer.apply_chat_template(
        [{"role": role, "content": plain(text)} for role, text in messages],
        add_generation_prompt=True,
        tokenize=False,
    )
    return list(tokenizer(prompt, add_special_tokens=False)["input_ids"])


def plain(text: str) -> str:
    """A user's text cannot speak the template's own control words."""
    return text.replace("<|", "< |")
