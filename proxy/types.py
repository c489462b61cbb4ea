"""The values that the stages hand each other, in one direction, from Request to Response.

Every type is frozen. A field that may hold a user's words is ``field(repr=False)``, so that a
repr is always safe to log. Nothing here does I/O.

Read in order: `Request` -> `Inspection` -> `Decision` -> `Draft` -> `Confidence` -> `Route` ->
`Outcome` -> `Response`. (The `Permit` before the outcome is the ledger's: `audit.permit`.)
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from proxy.flowing import LiveAnswer
    from proxy.holding import Held

# Read-only JSON, as the strict reader made it.
JSON = None | bool | int | float | str | Sequence["JSON"] | Mapping[str, "JSON"]
JSONObject = Mapping[str, JSON]

#: The model name that leaves the choice to the proxy.
AUTO_MODEL: Final = "ringfence"

#: The pre-router, where records name an estimator: its score is not that of a draft.
PRE_ROUTER: Final = "pre_router"


class Action(enum.StrEnum):
    """What a policy lets happen to a request, from the most to the least private."""

    BLOCK = "block"
    LOCAL_ONLY = "local_only"
    MASK = "mask"
    ALLOW = "allow"

    @property
    def strictness(self) -> int:
        """Rank for "the most restrictive wins": higher is stricter, [0, 3]."""
        return {"allow": 0, "mask": 1, "local_only": 2, "block": 3}[self.value]


class MaskWith(enum.StrEnum):
    """What stands for a masked value, from the most to the least private."""

    REDACT = "redact"  # one word for all; not even the kind of value is told
    HASH = "hash"  # a keyed digest of the request's own; the value does not come back
    PLACEHOLDER = "placeholder"  # the value comes back in the answer
    PSEUDONYM = "pseudonym"  # a made-up value of the same kind; the value comes back

    @property
    def strictness(self) -> int:
        """Rank for "the most private wins": higher is stricter, [0, 3]."""
        return {"pseudonym": 0, "placeholder": 1, "hash": 2, "redact": 3}[self.value]

    @property
    def one_way(self) -> bool:
        """Whether the value never comes back."""
        return self in (MaskWith.REDACT, MaskWith.HASH)


class Scan(enum.StrEnum):
    """What is done about findings in a cloud's answer."""

    NOTE = "note"  # counted on the record
    REDACT = "redact"  # taken out of the answer
    BLOCK = "block"  # the answer is withheld

    @property
    def strictness(self) -> int:
        """Rank: higher is stricter, [0, 2]."""
        return {"note": 0, "redact": 1, "block": 2}[self.value]


class Role(enum.StrEnum):
    """Who said a segment, as far as the request tells; `NONE` for everything outside messages."""

    SYSTEM = "system"
    DEVELOPER = "developer"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"
    NONE = "none"


class Origin(enum.StrEnum):
    """What kind of place of the JSON a segment stands in."""

    VALUE = "value"  # a JSON string
    KEY = "key"  # a member name
    NUMBER = "number"  # a number long enough to be an identifier, as its decimal text
    EMBEDDED = "embedded"  # found in JSON that stands inside a string
    BLOB = "blob"  # an image, a file, audio: bytes, not text
    FILE = "file"  # text that was taken out of a blob
    JOINED = "joined"  # neighbouring texts read as one


class Category(enum.StrEnum):
    """Families over entities, so that policies stay short."""

    IDENTITY = "identity"
    CONTACT = "contact"
    FINANCIAL = "financial"
    HEALTH = "health"
    CREDENTIAL = "credential"
    LOCATION = "location"
    SPECIAL_CATEGORY = "special_category"
    BUSINESS = "business"
    OTHER = "other"


class UnscannableReason(enum.StrEnum):
    """Why a segment could not be inspected. Each of these makes the request sensitive (P7)."""

    IMAGE = "image"
    AUDIO = "audio"
    FILE = "file"
    REMOTE_URL = "remote_url"
    ENCRYPTED = "encrypted"
    UNDECODABLE = "undecodable"
    TOO_LONG = "too_long"
    TRUNCATED = "truncated"
    LANGUAGE = "language"
    DETECTOR_FAILED = "detector_failed"
    DETECTOR_TIMEOUT = "detector_timeout"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, from our own key table, never from a header."""

    app: str
    team: str
    environment: str
    key_id: str


@dataclass(frozen=True, slots=True)
class Request:
    """One request of a client, parsed strictly and once.

    ``derived_from`` is the decision id of the pinned exchange that a stored conversation goes on
    from, if it does. ``route`` is the API route group (``chat.completions``). ``plan`` is what a
    plan of its batch says: `proxy.holding.HOLD`, or the cloud model to ask if policy lets it go.
    ``told``: it was answered at home before, so. ``kept_s``: for how long its answer can be had.
    """

    request_id: str
    caller: Caller
    route: str
    model: str
    body: JSONObject = field(repr=False)
    stream: bool
    received_at: datetime
    derived_from: str | None = None
    live: bool = False  # its client may be told the answer while it is made
    plan: str | None = None
    told: JSONObject | None = field(default=None, repr=False)
    kept_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of text or a blob of the request.

    ``path`` is the JSON path (``messages[2].content[0].text``); it may hold a client's own key, so
    it is never logged. Exactly one of ``text`` and ``blob`` is set; ``source`` is the string of the
    request that a blob was decoded from, in full.
    """

    index: int
    path: str = field(repr=False)
    role: Role
    origin: Origin
    text: str | None = field(default=None, repr=False)
    blob: bytes | None = field(default=None, repr=False)
    media_type: str | None = field(default=None, repr=False)
    source: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Finding:
    """One detected span. It never holds the matched text.

    ``start`` and ``end`` are half-open code-point offsets into the text of segment ``segment``;
    ``score`` is in [0, 1]; ``view`` names the reading of the text that showed it.
    """

    entity: str
    category: Category
    segment: int
    start: int
    end: int
    score: float
    detector: str
    view: str = "raw"


@dataclass(frozen=True, slots=True)
class Unscannable:
    """A segment that could not be inspected, and why."""

    segment: int
    reason: UnscannableReason


@dataclass(frozen=True, slots=True)
class Coverage:
    """What was really looked at; ``num_strings`` counts strings, long numbers and blobs."""

    num_strings: int
    num_inspected: int
    num_structural: int
    num_unscannable: int


@dataclass(frozen=True, slots=True)
class Inspection:
    """All that is known about the content of a request.

    ``segments`` are the segments found in the body (structural words left out); the findings and
    unscannable entries point into them by index.
    """

    segments: tuple[Segment, ...] = field(repr=False)
    findings: tuple[Finding, ...]
    unscannable: tuple[Unscannable, ...]
    coverage: Coverage
    languages: tuple[str, ...]
    detectors: tuple[tuple[str, str], ...]  # (name, version), sorted
    elapsed_ms: float


@dataclass(frozen=True, slots=True)
class Transfer:
    """Whom data goes to and on which basis (GDPR Art. 30(1)(e)); from policy, into every intent."""

    recipient: str
    country: str
    basis: str
    retention: str
    training: bool


@dataclass(frozen=True, slots=True)
class Destination:
    """A cloud endpoint that policy names. Whatever is not named does not exist.

    ``base_url`` is the OpenAI-compatible root (``https://api.openai.com/v1``); the first of
    ``models`` is used when a client did not ask for one of them.
    """

    id: str
    provider: str
    base_url: str
    models: tuple[str, ...]
    region: str
    transfer: Transfer
    stream_usage: bool = True  # it takes `stream_options`, and counts the tokens of a stream


@dataclass(frozen=True, slots=True)
class RuleRef:
    """A rule that led to a decision: its id and where it stands."""

    id: str
    file: str
    line: int


class OnLocalFailure(enum.StrEnum):
    """What an unpinned request does when the local tier cannot answer."""

    REFUSE = "refuse"
    CLOUD = "cloud"


@dataclass(frozen=True, slots=True)
class Mask:
    """A finding that must be masked before anything leaves, and with what."""

    finding: Finding
    by: MaskWith = MaskWith.PLACEHOLDER


@dataclass(frozen=True, slots=True)
class AnswerScan:
    """What is looked for in a cloud's answer, and what is done about it."""

    does: Scan
    entities: frozenset[str]
    min_score: float


@dataclass(frozen=True, slots=True)
class Decision:
    """The ceiling for everything that follows: later stages may be more private, never less."""

    decision_id: str
    action: Action
    rules: tuple[RuleRef, ...]
    policy_digest: str
    policy_revision: int
    destinations: tuple[Destination, ...]
    on_local_failure: OnLocalFailure
    allow_unrecorded_local: bool
    message: str | None = None  # the policy's fixed text for a blocked client
    derived_from: str | None = None  # decision id of the pinned exchange this request continues
    masks: tuple[Mask, ...] = ()  # what must be masked before anything leaves
    scan: AnswerScan | None = None  # how the answer of a cloud is inspected
    keep_answer: bool = False  # whether that answer may be kept, to learn from

    @property
    def may_leave(self) -> bool:
        """Whether the policy lets this request reach a cloud destination, as it is or masked."""
        return self.action in (Action.ALLOW, Action.MASK) and bool(self.destinations)

    @property
    def only_masked(self) -> bool:
        """Whether it may leave, but never as it is."""
        return self.action is Action.MASK and self.may_leave


@dataclass(frozen=True, slots=True)
class Draft:
    """The local answer.

    ``token_logprobs`` has shape ``(num_tokens,)``, natural log, each <= 0; empty when the local
    server gave none. ``top_logprobs`` has shape ``(num_tokens, k)``: the likeliest tokens at each
    place with their log-probabilities, best first; empty when the server gave none. ``body`` is the
    OpenAI-form answer as the client would get it. ``is_cut``: it was given up before its end, since
    no end could reach the threshold; then it is no answer, and ``body`` is empty.
    """

    text: str = field(repr=False)
    tokens: tuple[str, ...] = field(repr=False)
    token_logprobs: tuple[float, ...]
    finish_reason: str
    model: str
    body: JSONObject = field(repr=False)
    prompt_tokens: int
    completion_tokens: int
    elapsed_ms: float
    top_logprobs: tuple[tuple[tuple[str, float], ...], ...] = field(default=(), repr=False)
    is_cut: bool = False


@dataclass(frozen=True, slots=True)
class Confidence:
    """How far a draft is to be trusted.

    ``score`` is None when it is unknown, which is not low: an unknown draft stays local.
    ``doubts`` are coded signs that escalate whatever the score (``hedge:i don't know``,
    ``special_token:<unk>``); their words come from our own lists, never from the draft.
    ``is_cut``: the score is that of the beginning of a draft that was given up. ``full_threshold``
    is what ``threshold`` was before a budget that runs low lowered it.
    """

    score: float | None
    threshold: float
    estimator: str
    calibration_id: str | None = None
    doubts: tuple[str, ...] = ()
    full_threshold: float | None = None
    is_cut: bool = False

    @property
    def is_spared(self) -> bool:
        """Whether the draft stays only because a budget runs low."""
        full = self.full_threshold
        return not self.is_low and self.score is not None and full is not None and self.score < full

    @property
    def is_low(self) -> bool:
        """Whether the draft should be escalated, if policy lets it."""
        return self.score is not None and (self.score < self.threshold or bool(self.doubts))


class Target(enum.StrEnum):
    """Where the answer comes from."""

    LOCAL = "local"
    CLOUD = "cloud"
    REFUSE = "refuse"


class RouteReason(enum.StrEnum):
    """Why, as one code; the closed vocabulary of records and headers."""

    BLOCKED = "blocked"
    PINNED = "pinned"
    UNMASKABLE = "unmaskable"
    CONFIDENT = "confident"
    COMMITTED_EARLY = "committed_early"
    LOW_CONFIDENCE = "low_confidence"
    CLOUD_FIRST = "cloud_first"
    PREROUTED = "prerouted"
    HELD = "held"
    PLANNED = "planned"
    WOULD_ESCALATE = "would_escalate"
    CONFIDENCE_UNKNOWN = "confidence_unknown"
    LOCAL_FAILED = "local_failed"
    LOCAL_UNABLE = "local_unable"
    CLOUD_UNAVAILABLE = "cloud_unavailable"
    CLOUD_FAILED = "cloud_failed"
    ANSWER_WITHHELD = "answer_withheld"
    BUDGET_LOW = "budget_low"
    BUDGET_SPENT = "budget_spent"
    COST_UNKNOWN = "cost_unknown"
    LEDGER_UNWRITABLE = "ledger_unwritable"
    MODEL_IS_LOCAL = "model_is_local"
    CLIENT_GONE = "client_gone"


@dataclass(frozen=True, slots=True)
class Route:
    """Where the answer comes from and why. ``degraded``: policy allowed a better answer."""

    target: Target
    reason: RouteReason
    degraded: bool = False
    destination: Destination | None = None


@dataclass(frozen=True, slots=True)
class Restored:
    """What putting values back into a masked answer came to, in counts.

    ``unknown`` are what look like placeholders and are none of the request; ``tool_calls`` are
    those that got values back.
    """

    values: int = 0
    unknown: int = 0
    tool_calls: int = 0


class Verdict(enum.StrEnum):
    """What came of inspecting a cloud's answer."""

    CLEAN = "clean"
    NOTED = "noted"
    REDACTED = "redacted"
    BLOCKED = "blocked"
    UNREAD = "unread"  # not inspected to its end
    FAILED = "failed"  # the detectors did not do their work


@dataclass(frozen=True, slots=True)
class Scanned:
    """What an inspection of a cloud's answer came to; findings are counted by entity, sorted.

    ``withheld``: the answer is not given out.
    """

    verdict: Verdict
    entities: tuple[tuple[str, int], ...] = ()
    withheld: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one attempt at a cloud destination; ``payload`` is ``body`` as it arrived."""

    status: int
    body: JSONObject = field(repr=False)
    model: str
    prompt_tokens: int
    completion_tokens: int
    bytes_sent: int
    bytes_received: int
    elapsed_ms: float
    restored: Restored = Restored()
    scanned: Scanned | None = None
    payload: bytes | None = field(default=None, repr=False)
    provider_request_id: str | None = field(default=None, repr=False)
    counted: bool = False  # the destination told how many tokens went in and out
    cut_by: str | None = None  # what ended it when its client had begun to get it
    confidence: Confidence | None = None  # where another model could be asked


@dataclass(frozen=True, slots=True)
class Response:
    """What the client gets. ``body`` is an OpenAI error when ``http_status`` is not 200.

    ``pinned``: the exchange may not leave, and neither may what is made of it.
    """

    decision_id: str
    http_status: int
    body: JSONObject = field(repr=False)
    route: Route
    confidence: Confidence | None = None
    pinned: bool = False
    live: LiveAnswer | None = field(default=None, repr=False)  # in place of body; to be closed
    held: Held | None = None  # what the plan of its batch may go by
