"""The description of an API route: all that the stages need to know to treat every route alike.

A route never does anything itself: it has no I/O, and it cannot skip a stage. The pipeline takes
each request through the same steps and asks the route's description where the forms differ.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from proxy.routes.fields import Kind
from proxy.routes.form import Form
from proxy.routes.saying import texts_said
from proxy.types import JSON, JSONObject

#: The answer, the request's body -> the answer told as server-sent events.
Tell = Callable[[JSONObject, JSONObject], Iterator[bytes]]


@dataclass(frozen=True, slots=True)
class Reading:
    """What an estimator may ask of a local answer, read from its wire form.

    ``token_logprobs`` has shape ``(num_tokens,)``, natural log, each <= 0; empty where the local
    server gave none, or none to trust. ``top_logprobs`` as in `proxy.types.Draft`.
    """

    text: str = field(repr=False, default="")
    tokens: tuple[str, ...] = field(repr=False, default=())
    token_logprobs: tuple[float, ...] = ()
    finish_reason: str = "stop"
    top_logprobs: tuple[tuple[tuple[str, float], ...], ...] = field(repr=False, default=())


@dataclass(frozen=True, slots=True)
class Raw:
    """Bytes in place of JSON, and what they are."""

    media_type: str
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class AtHome:
    """What the local tier is asked for this route, and how its answer is read.

    ``path`` stands below the local tier's root. ``ask`` makes the body, its model left to the
    backend; ``read`` is None for an answer that is none; ``answer`` makes the answer in the form
    of the route, from the local one and the client's body. ``missing`` is what a client is told
    where the local endpoint has no such route or model; None: that it cannot serve the request.
    ``taken`` makes JSON of an answer that is bytes, and None of one that is none; None: it is JSON.
    """

    path: str
    ask: Callable[[JSONObject], JSONObject]
    read: Callable[[JSONObject], Reading | None]
    answer: Callable[[JSONObject, JSONObject], JSONObject]
    missing: str | None = None
    taken: Callable[[Raw], JSONObject | None] | None = None


@dataclass(frozen=True, slots=True)
class Scores:
    """How a destination is asked how sure it is of its answer, and how that is read.

    ``ask`` are the fields that ask for log-probabilities, given the client's body; ``read`` is
    None for an answer that is none; ``hide`` makes of the answer the one that the client asked for.
    """

    ask: Callable[[JSONObject], JSONObject]
    read: Callable[[JSONObject], Reading | None]
    hide: Callable[[JSONObject, JSONObject], JSONObject]


@dataclass(frozen=True, slots=True)
class Abroad:
    """What a cloud destination is asked for this route.

    ``path`` stands below the destination's root. ``is_answer`` tells an answer from anything else.
    ``forced`` stands in every outgoing body, whatever the client sent. ``limits`` are the fields
    that bound the tokens of an answer, the one to set first; none: it has no tokens out.
    ``usual_limit`` is what holds where a client sets none; None: whatever the model can write.
    ``is_chunk`` tells an event of an answer that comes as it is made; None: none comes so.
    ``scores`` None: nobody can tell how sure an answer is.
    """

    path: str
    is_answer: Callable[[JSONObject], bool]
    forced: JSONObject = field(default_factory=dict)
    limits: tuple[str, ...] = ()
    usual_limit: int | None = None
    is_chunk: Callable[[JSONObject], bool] | None = None
    scores: Scores | None = None


@dataclass(frozen=True, slots=True)
class Takes:
    """What a body holds that the proxy must understand, for those who read the published API.

    ``needs`` are the members it cannot do without, as JSON Schemas; ``parameters`` and ``ranges``
    the optional ones, as the route's check has them, and ``forms`` say more of some of these. Any
    other member is inspected and passed on.
    """

    needs: Mapping[str, Mapping[str, JSON]]
    parameters: Mapping[str, Kind] = field(default_factory=dict)
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    forms: Mapping[str, Mapping[str, JSON]] = field(default_factory=dict)


class Escalation(enum.Enum):
    """What decides whether a request that may leave does."""

    BY_CONFIDENCE = "by_confidence"  # the local draft is not sure enough
    BY_MODEL = "by_model"  # the client asked for a cloud model by name


@dataclass(frozen=True, slots=True)
class ApiRoute:
    """One route.

    ``name`` is what policies and records call it, ``path`` its path below the root. ``check``
    refuses a body whose known fields have the wrong types, and ``takes`` says the same to readers.
    ``abroad`` None: it never leaves.
    ``texts`` are the texts of an answer, for the pins; ``tell`` None: it does not stream.
    ``any_model``: a client may leave the model out, and the name it gives chooses nothing.
    ``form``: the body is a form and not JSON, at home as well. ``raw`` is an answer that the
    client gets as bytes (the client's body, the answer -> bytes); None: it is JSON. ``raw_types``
    are the media types that such bytes may have.
    """

    name: str
    path: str
    check: Callable[[JSONObject], None]
    takes: Takes
    at_home: AtHome
    abroad: Abroad | None
    texts: Callable[[JSONObject], tuple[str, ...]]
    tell: Tell | None = None
    escalation: Escalation = Escalation.BY_CONFIDENCE
    any_model: bool = False
    form: Form | None = None
    raw: Callable[[JSONObject, JSONObject], Raw | None] = lambda _, __: None
    raw_types: tuple[str, ...] = ()


def ask_for(endpoint: str) -> str:
    """What helps a client of a route that never leaves: whoever runs the proxy sets this."""
    return (
        "Trying again does not help: ask those who run this proxy for a local endpoint that can "
        f"(RINGFENCE_{endpoint}_BASE_URL)."
    )


def stays_home(
    name: str,
    path: str,
    check: Callable[[JSONObject], None],
    read: Callable[[JSONObject], Reading | None],
    takes: Takes,
    missing: str | None = None,
) -> ApiRoute:
    """A route that never leaves: asked and answered at home as it stands, by whatever model.

    Every text of the answer is one for the pins, wherever it stands in it.
    """
    return ApiRoute(
        name=name,
        path=path,
        check=check,
        takes=takes,
        at_home=AtHome(path, lambda body: body, read, lambda told, _: told, missing),
        abroad=None,
        texts=texts_said,
        any_model=True,
    )
