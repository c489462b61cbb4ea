"""Grades a whole data file: which rows count, whom to ask about them, and what is kept of it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

from proxy import __version__
from proxy.errors import SettingsError
from proxy.local.embedded import EmbeddedServer
from proxy.local.openai_http import OpenAIHTTPBackend
from proxy.prices import load_prices
from proxy.routing.artifact import weights_digest
from proxy.routing.asking import ASKING
from proxy.routing.catalog import LEARNED, build_estimator
from proxy.routing.collect import MAX_TOKENS, Collector
from proxy.routing.collect import Progress as Kept
from proxy.routing.committing import AFTER_TOKENS
from proxy.routing.features import FEATURES
from proxy.routing.foreseeing import encode
from proxy.routing.judge import Judge
from proxy.routing.rows import Graded, Item, read_items
from proxy.settings import Settings

#: What a grade on record depends on beside the data and the settings: our own code.
_OURS: Final = (__version__, *FEATURES, AFTER_TOKENS, MAX_TOKENS)


@dataclass(frozen=True, slots=True)
class Questions:
    """The rows of a data file that count, and the digest of the file.

    ``num_repeated`` are those that were left out, since their question stands above: a copy shows
    nothing new, and a bound that counted it as a further draw would promise too much.
    """

    items: list[Item]
    digest: str
    num_repeated: int

    @property
    def notice(self) -> str:
        """What to tell of rows that were left out; empty where there are none."""
        return (
            f"{self.num_repeated} rows repeat a question of another: each question counts once"
            if self.num_repeated
            else ""
        )


def read_questions(data: Path) -> Questions:
    """The questions of a data file, each once.

    Raises:
        SettingsError: see `read_items`.
    """
    once: dict[str, Item] = {}
    num_rows = 0
    for item in read_items(data):
        num_rows += 1
        once.setdefault(" ".join(item.prompt.casefold().split()), item)
    digest = f"sha256:{hashlib.sha256(data.read_bytes()).hexdigest()}"
    return Questions(list(once.values()), digest, num_rows - len(once))


def kept_beside(out: Path, settings: Settings, digest: str, *, recorded: bool, judge: str) -> Kept:
    """What is graded already, of the run that makes ``out``; of this very run alone.

    Whatever a grade depends on is part of its name, so that a run which goes on mixes nothing.

    Raises:
        SettingsError: the price table cannot be read.
    """
    asked_nobody = recorded and settings.estimator in ASKING
    made_for = (
        *(settings.estimator, settings.local_model, weights_digest(settings)),
        *(settings.local_base_url, digest, judge, asked_nobody),
        repr(load_prices(settings.prices_file)),
        *_OURS,
    )
    name = hashlib.sha256(json.dumps(made_for).encode()).hexdigest()
    out.parent.mkdir(parents=True, exist_ok=True)
    return Kept(progress_file(out), name)


def progress_file(out: Path) -> Path:
    """Where a run that makes ``out`` keeps what is graded."""
    return out.with_name(out.name + ".progress")


def grade_items(
    settings: Settings, items: list[Item], kept: Kept, *, recorded: bool, judge: str = ""
) -> list[Graded]:
    """Every item graded, with a progress bar on a terminal.

    Args:
        settings: for the estimator and the local tier.
        items: what to grade.
        kept: what is graded already.
        recorded: ask nobody for an answer.
        judge: the model that grades what has no grade on record, at the local endpoint.

    Raises:
        SettingsError: see `Collector.collect`; or a judge needs an endpoint.
        LocalBackendError: the local tier or the judge failed.
    """
    if judge and settings.local_base_url is None:
        raise SettingsError("--judge needs RINGFENCE_LOCAL_BASE_URL: a small model is no judge")
    asks = not recorded and any(item.local is None for item in items)
    with _with_endpoint(settings, "local_base_url", is_needed=asks) as here:
        return asyncio.run(_grade_all(here, items, kept, recorded=recorded, judge=judge))


async def _grade_all(
    settings: Settings, items: list[Item], kept: Kept, *, recorded: bool, judge: str
) -> list[Graded]:
    grader = _endpoint(settings, settings.local_base_url, judge)
    local = _endpoint(settings, settings.local_base_url, settings.local_model)
    name = "mean_logprob" if settings.estimator == LEARNED else settings.estimator
    estimator = build_estimator(name, None, local)
    if not recorded:
        await local.learn()
    prices = load_prices(settings.prices_file)
    judged = Judge(grader).is_right if judge else None
    collector = Collector(estimator, None if recorded else local, prices, judged)
    try:
        with _progress() as bar:
            task = bar.add_task("questions", total=len(items))
            graded = []
            async for one in collector.collect(items, kept):
                graded.append(one)
                bar.advance(task)
            return graded
    finally:
        await local.aclose()
        await grader.aclose()


def encoded(settings: Settings, items: list[Item]) -> dict[str, tuple[float, ...]]:
    """What the pre-router looks at, of each question, from the local tier's encoder.

    Raises:
        LocalBackendError: the encoder failed.
    """
    with _with_endpoint(settings, "embedding_base_url") as here:
        return asyncio.run(_encode_all(here, items))


async def _encode_all(settings: Settings, items: list[Item]) -> dict[str, tuple[float, ...]]:
    encoder = _endpoint(settings, settings.embedding_base_url, settings.embedding_model)
    try:
        return await encode(encoder, items)
    finally:
        await encoder.aclose()


@contextlib.contextmanager
def _with_endpoint(
    settings: Settings,
    which: Literal["local_base_url", "embedding_base_url"],
    *,
    is_needed: bool = True,
) -> Iterator[Settings]:
    """Settings with an endpoint for ``which``: the one set, or an embedded one, started for it."""
    url = getattr(settings, which) or settings.local_base_url
    if url or not is_needed:
        yield settings.model_copy(update={which: url})
        return
    encoder = settings.embedding_model_dir if which == "embedding_base_url" else None
    with EmbeddedServer(settings.model_dir, settings.local_model, encoder_dir=encoder) as server:
        yield settings.model_copy(update={which: server.base_url})


def _endpoint(settings: Settings, url: str | None, model: str) -> OpenAIHTTPBackend:
    """The endpoint at ``url``; without one, a place where nobody is asked."""
    return OpenAIHTTPBackend.of(settings, url or "http://127.0.0.1:9/v1", model)


def _progress() -> Progress:
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True))
