"""The policy language: what a file may say.

Strict: an unknown key is an error, since a misspelt rule that does nothing is worse than none. The
JSON Schema for editors comes from these models. A key stands here only if something obeys it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    StrictBool,
    Tag,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from proxy.address import plain
from proxy.inspection.checksums import CHECKS
from proxy.inspection.views.view import MARGIN_CHARS
from proxy.policy.disguises import FORMS, PLACES
from proxy.policy.strict import Day, Label, Name, Strict, Term, Why, no_bool
from proxy.types import Action, Category, MaskWith, OnLocalFailure, Role, Scan, UnscannableReason

#: What a part that could not be read, or was not read in time, may do: never leave.
Pinned = Literal[Action.BLOCK, Action.LOCAL_ONLY]


class ContextWords(Strict):
    """Words near a finding that make it surer."""

    words: tuple[Term, ...] = Field(min_length=1, max_length=100)
    window: int = Field(default=40, strict=True, ge=1, le=MARGIN_CHARS)
    """How near, in characters; no farther than a disguised text is read around its disguise."""
    boost: float = Field(strict=True, gt=0.0, le=1.0)
    """What they add to the score, to 1 at the most."""


class Examples(Strict):
    """Texts that a recognizer finds something in, and texts that it does not."""

    match: tuple[Term, ...] = Field(min_length=1, max_length=50)
    no_match: tuple[Term, ...] = Field(min_length=1, max_length=50)


class RecognizerPolicy(Strict):
    """Something of your own to find: by a pattern, or by a list of terms."""

    entity: str = Field(pattern=r"^[A-Z][A-Z0-9_]{2,63}$")
    """What it is called in rules, tests and records: a name of your own, or one that exists."""
    category: Category
    """Which rules over categories count it; the same wherever the entity is named."""
    why: Why
    pattern: Annotated[str, Field(min_length=1, max_length=2000)] | None = None
    """An RE2 pattern; the value is group 1 where there is one, or else the whole match."""
    terms: tuple[Term, ...] = Field(default=(), max_length=10_000)
    """Words and phrases; capitals, accents, and hyphens for spaces do not matter."""
    terms_file: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}\.txt$")
    """A file of the same folder with a term in each line; `#` begins a comment."""
    score: float = Field(strict=True, gt=0.0, le=1.0)
    """How sure a finding is, without a context word."""
    context: ContextWords | None = None
    check: Literal[CHECKS] | None = None  # type: ignore[valid-type]
    """A checksum that the letters and digits of the value must pass."""
    languages: tuple[Label, ...] = ()
    """Texts that are surely in another language are not read; empty: all are."""
    examples: Examples

    @model_validator(mode="after")
    def _says_what(self) -> Self:
        if (self.pattern is None) == (not self.terms and self.terms_file is None):
            raise ValueError("give either `pattern`, or `terms` and `terms_file`")
        if self.check is not None and self.pattern is None:
            raise ValueError("`check` goes with `pattern`")
        return self


class Scope(Strict):
    """Whom something holds for: every list that is given must name the caller's value."""

    apps: tuple[Label, ...] = ()
    teams: tuple[Label, ...] = ()
    environments: tuple[Label, ...] = ()
    keys: tuple[Label, ...] = ()
    models: tuple[Label, ...] = ()
    """Model names as the client asks for them."""
    routes: tuple[Label, ...] = ()
    """API route groups, such as `chat.completions`."""


class Condition(Strict):
    """At least ``min_count`` findings that meet every key given."""

    entities: tuple[str, ...] = ()
    """Entities, any of which counts."""
    categories: tuple[Category, ...] = ()
    """Categories, any of whose entities counts."""
    min_score: float = Field(default=0.0, strict=True, ge=0.0, le=1.0)
    """Least score of a finding that counts."""
    min_count: int = Field(default=1, strict=True, ge=1, le=1000)
    """Least number of such findings."""
    roles: tuple[Role, ...] = ()
    """Whose words: system, developer, user, assistant, tool, none; empty: anyone's."""
    paths: tuple[Label, ...] = ()
    """Places of the request, such as `messages[*].content`; `*` stands for anything."""

    @property
    def counts_findings(self) -> bool:
        """Whether it names what to count."""
        return bool(self.entities or self.categories)


class Part(Condition):
    """One of the conditions of ``all_of``."""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.counts_findings:
            raise ValueError("name at least one entity or category")
        return self


class When(Condition):
    """What a rule matches: every key that is given must hold. All keys ask for presence."""

    all_of: tuple[Part, ...] = ()
    """Conditions that must all hold, such as a name and an illness."""
    languages: tuple[Label, ...] = ()
    """Languages, any of which the request holds."""
    unscannable: tuple[UnscannableReason, ...] = ()
    """Reasons, any of which kept a part of the request from being inspected."""
    always: Literal[True] | None = None
    """Matches every request in scope."""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not (self.counts_findings or self.all_of or self.languages or self.unscannable):
            if self.always is None:
                raise ValueError("name at least one entity or category, or say `always: true`")
        elif self.always:
            raise ValueError("`always` stands alone")
        return self


class MaskOptions(Strict):
    """How values are masked."""

    by: MaskWith = Field(alias="with")
    """`pseudonym` and `placeholder`: put back into the answer. `hash` and `redact`: never."""


class MaskAction(Strict):
    """The action `mask`, with its options."""

    mask: MaskOptions


def _form_of_action(value: object) -> str:
    return "options" if isinstance(value, dict | MaskAction) else "word"


RuleAction = Annotated[
    Annotated[Action, Tag("word")] | Annotated[MaskAction, Tag("options")],
    Discriminator(_form_of_action),
]


class Rule(Strict):
    """One rule. Every rule that matches votes; the most restrictive action wins."""

    id: Name
    why: Why
    """Which requirement the rule serves, for its next reader."""
    when: When
    scope: Scope = Scope()
    """Whom the rule holds for; empty: everyone."""
    does: RuleAction = Field(alias="action")
    """What happens at the least: a word, or `{mask: {with: hash}}`."""
    message: str | None = Field(default=None, max_length=300)
    """Fixed text for the client of a blocked request."""

    @property
    def action(self) -> Action:
        """The action, without its options."""
        return self.does if isinstance(self.does, Action) else Action.MASK

    @property
    def mask_with(self) -> MaskWith:
        """What stands for the values, should they be masked."""
        return self.does.mask.by if isinstance(self.does, MaskAction) else MaskWith.PLACEHOLDER


class TransferPolicy(Strict):
    """Whom data goes to and on which basis (GDPR Art. 30(1)(e))."""

    recipient: str
    country: str = Field(pattern=r"^[A-Z]{2}$")
    basis: Name
    retention: str
    training: StrictBool = False


class OnlyFor(Strict):
    """Which requests may go to a destination; a finding more never opens one."""

    scope: Scope = Scope()
    categories_absent: tuple[Category, ...] = ()
    """Nothing of these categories was found, whatever its score."""
    entities_absent: tuple[str, ...] = ()
    """None of these entities was found, whatever its score."""


class DestinationPolicy(Strict):
    """A cloud endpoint. Whatever is not named in a policy does not exist."""

    id: Name
    provider: Name
    base_url: str
    models: tuple[Name, ...] = Field(min_length=1)
    region: Name
    transfer: TransferPolicy
    only_for: OnlyFor = OnlyFor()
    stream_usage: StrictBool = True
    """Whether it takes `stream_options`; if not, nobody knows what a stream of it costs."""

    @field_validator("base_url")
    @classmethod
    def _is_safe(cls, base_url: str) -> str:
        url = plain(base_url)
        loopback = url.hostname in ("127.0.0.1", "localhost", "::1")
        if url.scheme != "https" and not loopback:
            raise ValueError("must be https (http only on loopback, for a stand-in)")
        return base_url.rstrip("/")


class ExceptionPolicy(Strict):
    """The one way to loosen a rule: for somebody named, approved by another, until a day."""

    id: Name
    loosens: Name
    """Id of the rule, or `default`."""
    to: Action
    scope: Scope
    why: Why
    ticket: Label
    owner: Label
    approved_by: Label
    """A second person, not the owner."""
    until: Day
    """Last day (UTC) it holds; the rule is back in force the day after."""

    @field_validator("scope")
    @classmethod
    def _is_narrow(cls, scope: Scope) -> Scope:
        if not any(getattr(scope, name) for name in Scope.model_fields):
            raise ValueError("name at least one app, team, environment, key, model or route")
        return scope

    @field_validator("approved_by")
    @classmethod
    def _is_another(cls, approved_by: str, info: object) -> str:
        data = getattr(info, "data", {})
        if approved_by.strip().casefold() == str(data.get("owner", "")).strip().casefold():
            raise ValueError("must be a second person, not the owner")
        return approved_by


class AllowedTerm(Strict):
    """A text that is known and harmless, such as the name of the company's own spokesperson."""

    value: Annotated[str, Field(min_length=2, max_length=200)]
    why: Why
    owner: Label
    until: Day


class AllowedDomain(Strict):
    """A mail domain whose addresses are no secret."""

    value: Annotated[str, Field(pattern=r"^[a-z0-9-]+(\.[a-z0-9-]+)+$", max_length=253)]
    why: Why
    owner: Label
    until: Day


class AllowedPattern(Strict):
    """Texts of one form that are known and harmless, such as the numbers of the own switchboard."""

    value: Annotated[str, Field(min_length=2, max_length=500)]
    """An RE2 pattern that the found text must match from its first to its last character."""
    why: Why
    owner: Label
    until: Day


class AllowList(Strict):
    """Findings that do not count, except for floors."""

    terms: tuple[AllowedTerm, ...] = ()
    domains: tuple[AllowedDomain, ...] = ()
    patterns: tuple[AllowedPattern, ...] = ()


class Valid(Strict):
    """The days (UTC, both included) on which a policy may let anything leave."""

    since: Day | None = Field(default=None, alias="from")
    until: Day | None = None


class RecordPolicy(Strict):
    """How the record is kept."""

    retention_days: int | None = Field(default=None, strict=True, ge=1, le=36_500)
    """`ringfence audit prune` removes what is older, and nothing younger."""
    train_on_answers: bool | None = Field(default=None, strict=True)
    """Whether the answers of clouds are kept beside what left, to learn from; off by default."""


class Expectation(Strict):
    """What a test expects of the decision."""

    action: Action
    rule: Name | None = None
    destination: Name | None = None
    """A destination that must be open to the request."""


class FindingCase(Strict):
    """A finding given as data, so that no detector is needed."""

    entity: str
    score: float = Field(strict=True, ge=0.0, le=1.0)
    role: Role = Role.USER
    path: str = "messages[0].content"
    count: int = Field(default=1, strict=True, ge=1, le=1000)


class CallerCase(Strict):
    """Who asks, in a test."""

    app: Label = "test"
    team: Label = "test"
    environment: Label = "test"
    key: Label = "test"
    model: Label = "ringfence"
    route: Label = "chat.completions"


class Turn(Strict):
    """One message of a conversation in a test: who says it, and what."""

    system: str | None = None
    developer: str | None = None
    user: str | None = None
    assistant: str | None = None
    tool: str | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if sum(text is not None for _, text in self) != 1:
            raise ValueError("give one of system, developer, user, assistant, tool")
        return self

    @property
    def said(self) -> tuple[str, str]:
        """Role and text."""
        return next((role, text) for role, text in self if text is not None)


def _named(names: Iterable[str]) -> BeforeValidator:
    """`all`, or a list of ``names``."""

    def check(value: object) -> object:
        if value == "all":
            return tuple(names)
        if isinstance(value, str):
            raise ValueError("must be a list, or `all`")
        for name in value if isinstance(value, list | tuple) else ():
            if name not in names:
                raise ValueError(f"must be of: {', '.join(names)}")
        return value

    return BeforeValidator(check)


def _names_schema(names: Iterable[str]) -> WithJsonSchema:
    listed = {"type": "array", "items": {"enum": list(names)}}
    return WithJsonSchema({"anyOf": [{"const": "all"}, listed], "default": []})


Forms = Annotated[tuple[str, ...], _named(FORMS), _names_schema(FORMS)]
Places = Annotated[tuple[str, ...], _named(PLACES), _names_schema(PLACES)]


class Case(Strict):
    """A test beside the rules: what is asked, or findings as data, and what must come of it."""

    name: str
    user: str | None = None
    """A text of a user."""
    messages: tuple[Turn, ...] | None = Field(default=None, min_length=1, max_length=100)
    """Several turns of a conversation, in order."""
    request: dict[str, Any] | None = None
    """The body of a request, as a client sends it."""
    findings: tuple[FindingCase, ...] | None = None
    """Findings as data: no detector runs, so the proxy tries such a test at every load."""
    forms: Forms = ()
    """Forms that hide the text of `user`, or `all`: each gets the action, or a stricter one."""
    places: Places = ()
    """Places of a request the text of `user` stands in, or `all`; each in every form."""
    unscannable: tuple[UnscannableReason, ...] = ()
    languages: tuple[Label, ...] = ()
    caller: CallerCase = CallerCase()
    today: Day | None = None
    """The day the test plays on; today, if it does not say."""
    expect: Expectation

    @model_validator(mode="after")
    def _has_input(self) -> Self:
        given = (self.user, self.messages, self.request, self.findings)
        if sum(part is not None for part in given) != 1:
            raise ValueError("give one of `user`, `messages`, `request` and `findings`")
        if self.findings is None and (self.unscannable or self.languages):
            raise ValueError("`unscannable` and `languages` go with `findings`")
        if self.user is None and (self.forms or self.places):
            raise ValueError("`forms` and `places` go with `user`")
        return self


class Responses(Strict):
    """What is done about findings in the answers of a cloud."""

    scan: Scan
    entities: tuple[str, ...] = ()
    categories: tuple[Category, ...] = ()
    """What counts: these entities, and those of these categories."""
    min_score: float = Field(default=0.5, strict=True, ge=0.0, le=1.0)

    @model_validator(mode="after")
    def _counts_something(self) -> Self:
        if not (self.entities or self.categories):
            raise ValueError("give `entities` or `categories`: names of the world stand in answers")
        return self


class PolicyFile(Strict):
    """A policy file, whole."""

    version: Annotated[Literal[1], BeforeValidator(no_bool)]
    pack: Name
    revision: int = Field(strict=True, ge=1)
    """Only upwards: a running proxy refuses a lower one."""
    owner: Label
    valid: Valid = Valid()
    """Outside these days nothing leaves."""
    include: tuple[Name, ...] = ()
    """Packs of the same folder (file name without `.yaml`) whose rules hold as well."""
    scope: Scope = Scope()
    """Whom the rules of this file hold for. The file in force blocks callers outside it."""
    default: Action | None = None
    """The least that happens to every request. The file in force blocks all without one."""
    on_unscannable: Pinned = Action.LOCAL_ONLY
    """For requests of which a part could not be inspected; never weaker than local_only."""
    on_detector_timeout: Pinned = Action.LOCAL_ONLY
    """For requests that could not be inspected in time."""
    on_local_failure: OnLocalFailure = OnLocalFailure.REFUSE
    unrecorded_local: StrictBool = False
    """Whether a pinned request may be answered at home while the ledger cannot be written."""
    responses: Responses | None = None
    """Whether the answers of a cloud are inspected; only the file in force says so."""
    public_figures: Literal["allow", "pin"] | None = None
    """Whether names of public figures count as persons (`pin`, also where no file says)."""
    destinations: tuple[DestinationPolicy, ...] = ()
    recognizers: tuple[RecognizerPolicy, ...] = ()
    """What to find beyond what the detectors know; an include's count as well."""
    floors: tuple[Rule, ...] = ()
    """Rules that no exception and no allow-list reaches."""
    rules: tuple[Rule, ...] = ()
    record: RecordPolicy = RecordPolicy()
    """How long the record is kept; of several files the longest time."""
    allow_list: AllowList = AllowList()
    exceptions: tuple[ExceptionPolicy, ...] = ()
    tests: tuple[Case, ...] = ()
