"""The cells of the matrix: a position, on a route, as a stream or not, under a condition.

A cell says what is tried; nothing here sends anything.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from proxy.selfcheck import blobs
from proxy.selfcheck import puts as at
from proxy.selfcheck.canaries import Canaries, Kind, Plant
from proxy.selfcheck.positions import POSITIONS
from proxy.selfcheck.puts import Position
from proxy.selfcheck.traces import Trace
from proxy.types import JSON, JSONObject


class Condition(enum.Enum):
    """What goes wrong, or is asked for, meanwhile."""

    NONE = "nothing"
    REPEAT = "asked again"
    UPSTREAM = "the cloud fails at first"
    MODEL = "a cloud model by name"
    CONNECTIONS = "many connections"
    STORED = "a stored answer goes on"
    BATCH = "a line of a batch"
    DETECTOR = "the detectors are late"
    LOCAL = "the local model is down"


#: Positions that are tried in batches: a line takes the way of a request, so a few show it.
_IN_BATCHES: Final = frozenset(
    {
        "main text", "one of many texts", "system", "instructions", "key of a tool schema",
        "tool arguments", "tool result", "text file", "metadata", "stop", "unknown field",
        "unknown key", "number", "split over parts", "split over fields", "base64", "hex",
    }
)  # fmt: skip

#: What cannot be brought about from outside a proxy; only tests of that proxy can.
FROM_INSIDE: Final = (Condition.DETECTOR, Condition.LOCAL)


@dataclass(frozen=True, slots=True)
class Route:
    """A route of OpenAI's API, and a harmless request for it (question, model -> body)."""

    name: str
    path: str
    body: Callable[[str, str], JSONObject] = field(repr=False)
    streams: bool = False
    is_form: bool = False


def _messages(question: str, model: str) -> JSONObject:
    asked: JSON = {"role": "user", "content": question}
    return {"model": model, "messages": [asked], "max_tokens": 8}


def _form(member: str, url: str, words: str) -> Callable[[str, str], JSONObject]:
    """A form with a file and the question."""
    return lambda question, model: {"model": model, member: at.form_file(url), words: question}


_RECORDING: Final = _form("file", at.recording("Hello."), "prompt")
_PICTURE: Final = blobs.picture("7")


def _image(question: str, model: str) -> JSONObject:
    return {"model": model, "prompt": question}


ROUTES: Final[Mapping[str, Route]] = {
    route.name: route
    for route in (
        Route(at.CHAT, "/chat/completions", _messages, True),
        Route(
            at.COMPLETIONS,
            "/completions",
            lambda question, model: {"model": model, "prompt": question, "max_tokens": 8},
            True,
        ),
        Route(
            at.RESPONSES,
            "/responses",
            lambda question, model: {"model": model, "input": question, "max_output_tokens": 16},
            True,
        ),
        Route(at.EMBEDDINGS, "/embeddings", lambda q, model: {"model": model, "input": q}),
        Route(at.MODERATIONS, "/moderations", lambda q, model: {"model": model, "input": q}),
        Route(at.IMAGES, "/images/generations", _image),
        Route(
            at.SPEECH,
            "/audio/speech",
            lambda question, model: {"model": model, "input": question, "voice": "alloy"},
        ),
        Route(at.EDITS, "/images/edits", _form("image", _PICTURE, "prompt"), is_form=True),
        Route(at.VARIATIONS, "/images/variations", _form("image", _PICTURE, "user"), is_form=True),
        Route(at.TRANSCRIPTIONS, "/audio/transcriptions", _RECORDING, is_form=True),
        Route(at.TRANSLATIONS, "/audio/translations", _RECORDING, is_form=True),
    )
}


@dataclass(frozen=True, slots=True)
class Cell:
    """One thing to try."""

    position: Position
    route: Route
    stream: bool
    condition: Condition
    kind: Kind

    @property
    def name(self) -> str:
        """The cell in words."""
        stream = ", streamed" if self.stream else ""
        return f"{self.kind.value} as {self.position.name}, {self.route.name}{stream}" + (
            "" if self.condition is Condition.NONE else f", {self.condition.value}"
        )


@dataclass(frozen=True, slots=True)
class Probe:
    """A request of a cell, or the harmless twin of it: the same but for the value.

    ``index`` is the probe's number in the run; ``marker`` a word of its question, by which it is
    known wherever it arrives.
    """

    index: int
    cell: Cell
    plant: Plant = field(repr=False)
    marker: str
    is_twin: bool

    def body(self, model: str) -> JSONObject:
        """The whole body, with what is no part of it under `HEADERS` and `QUERY`."""
        question = f"What does the word {self.marker} mean in one sentence?"
        body = self.cell.route.body(question, model)
        body = self.cell.position.puts[self.cell.route.name](body, self.plant)
        return {**body, "stream": True} if self.cell.stream else body

    def traces(self) -> Iterator[Trace]:
        """What shows the plant, and under the twin's number nothing."""
        if not self.is_twin:
            yield Trace(self.index, self.plant.bare, self.cell.position.shows(self.plant))


def all_cells() -> tuple[Cell, ...]:
    """Every cell: all positions, routes and streams, and each condition where it makes sense."""
    return tuple(cell for condition in Condition for cell in _under(condition))


def one_of_each(cells: Sequence[Cell]) -> tuple[Cell, ...]:
    """Of each position on each route one cell, the conditions and streams by turns; and of each
    condition on each route, streamed or not, at least one."""
    places: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        places.setdefault((cell.position.name, cell.route.name), []).append(cell)
    chosen = [these[number % len(these)] for number, these in enumerate(places.values())]
    covered = {(cell.condition, cell.route.name, cell.stream) for cell in chosen}
    for cell in cells:
        shape = (cell.condition, cell.route.name, cell.stream)
        if shape not in covered:
            covered.add(shape)
            chosen.append(cell)
    return tuple(chosen)


def probes(cells: Sequence[Cell], seed: int) -> tuple[Probe, ...]:
    """Each cell and its twin, with fresh values."""
    canaries = Canaries(seed)
    found: list[Probe] = []
    for cell in cells:
        for plant in (canaries.plant(cell.kind), canaries.harmless()):
            twin = plant.kind is None
            found.append(Probe(len(found), cell, plant, canaries.marker(), twin))
    return tuple(found)


def _under(condition: Condition) -> Iterator[Cell]:
    for number, position in enumerate(POSITIONS):
        for name in position.puts:
            route = ROUTES[name]
            for stream in (False, True) if route.streams else (False,):
                if _makes_sense(condition, position, route, stream):
                    turn = number + list(Condition).index(condition) + stream
                    kind = position.kinds[turn % len(position.kinds)]
                    yield Cell(position, route, stream, condition, kind)


def _makes_sense(condition: Condition, position: Position, route: Route, stream: bool) -> bool:
    """Whether the combination can show more than the plain one."""
    if condition is Condition.NONE:
        return True
    if condition is Condition.STORED:
        return route.name == at.RESPONSES and position.name not in ("header", "query")
    if condition is Condition.BATCH:
        return not stream and route.name in at.TEXT_ROUTES and position.name in _IN_BATCHES
    if route.name in (at.IMAGES, at.SPEECH, at.MODERATIONS, *at.FORM_ROUTES):
        return condition is Condition.LOCAL
    # A stream takes the same way; under a condition it stands for the main text alone.
    return not stream or position.name in ("main text", "content part", "tool result")
