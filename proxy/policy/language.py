"""The policy language: what a file may say.

Strict: an unknown key is an error, since a misspelt rule that does nothing is worse than none. The
JSON Schema for editors comes from these models. A key stands here only if something obeys it.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    field_validator,
    model_validator,
)

from proxy.inspection.entities import ENTITIES
from proxy.types import Action, Category, OnLocalFailure, Role, UnscannableReason

Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9._-]{0,63}$")]
Label = Annotated[str, Field(min_length=1, max_length=128)]
Why = Annotated[str, Field(min_length=3, max_length=500)]


def _no_bool(value: object) -> object:
    """Python takes true for 1; a reader does not."""
    if isinstance(value, bool):
        raise ValueError("must be 1")
    return value


def _iso_day(value: object) -> object:
    """A day as it is written; pydantic would read a number as seconds since 1970."""
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d{2}-\d{2}", value):
        return value
    if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
        return value
    raise ValueError("must be a day, written 2026-12-31")


Day = Annotated[dt.date, BeforeValidator(_iso_day)]

#: What a part that could not be read, or was not read in time, may do: never leave.
Pinned = Literal[Action.BLOCK, Action.LOCAL_ONLY]


class Strict(BaseModel):
    """Base of every part of a policy."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


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

    @field_validator("entities")
    @classmethod
    def _known(cls, entities: tuple[str, ...]) -> tuple[str, ...]:
        for entity in entities:
            if entity not in ENTITIES:
                raise ValueError(f"entity {entity!r} is not known")
        return entities

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


class Rule(Strict):
    """One rule. Every rule that matches votes; the most restrictive action wins."""

    id: Name
    why: Why
    """Which requirement the rule serves, for its next reader."""
    when: When
    scope: Scope = Scope()
    """Whom the rule holds for; empty: everyone."""
    action: Action
    message: str | None = Field(default=None, max_length=300)
    """Fixed text for the client of a blocked request."""


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

    @field_validator("entities_absent")
    @classmethod
    def _known(cls, entities: tuple[str, ...]) -> tuple[str, ...]:
        for entity in entities:
            if entity not in ENTITIES:
                raise ValueError(f"entity {entity!r} is not known")
        return entities


class DestinationPolicy(Strict):
    """A cloud endpoint. Whatever is not named in a policy does not exist."""

    id: Name
    provider: Name
    base_url: str
    models: tuple[Name, ...] = Field(min_length=1)
    region: Name
    transfer: TransferPolicy
    only_for: OnlyFor = OnlyFor()

    @field_validator("base_url")
    @classmethod
    def _is_safe(cls, base_url: str) -> str:
        try:
            url = urlsplit(base_url)
            plain = not (url.username or url.password or url.query or url.fragment)
            plain = plain and bool(url.hostname) and (url.port is None or url.port > 0)
        except ValueError:
            plain = False
        if not plain:
            raise ValueError("must be a plain address, without user, query or fragment")
        loopback = url.hostname in ("127.0.0.1", "localhost", "::1")
        if url.scheme != "https" and not (url.scheme == "http" and loopback):
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


class AllowList(Strict):
    """Findings that do not count, except for floors."""

    terms: tuple[AllowedTerm, ...] = ()
    domains: tuple[AllowedDomain, ...] = ()


class Valid(Strict):
    """The days (UTC, both included) on which a policy may let anything leave."""

    since: Day | None = Field(default=None, alias="from")
    until: Day | None = None


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

    @field_validator("entity")
    @classmethod
    def _known(cls, entity: str) -> str:
        if entity not in ENTITIES:
            raise ValueError(f"entity {entity!r} is not known")
        return entity


class CallerCase(Strict):
    """Who asks, in a test."""

    app: Label = "test"
    team: Label = "test"
    environment: Label = "test"
    key: Label = "test"
    model: Label = "ringfence"
    route: Label = "chat.completions"


class Case(Strict):
    """A test beside the rules: a user's text, or findings as data, and what must come of it."""

    name: str
    user: str | None = None
    findings: tuple[FindingCase, ...] | None = None
    unscannable: tuple[UnscannableReason, ...] = ()
    languages: tuple[Label, ...] = ()
    caller: CallerCase = CallerCase()
    today: Day | None = None
    """The day the test plays on; today, if it does not say."""
    expect: Expectation

    @model_validator(mode="after")
    def _has_input(self) -> Self:
        if (self.user is None) == (self.findings is None):
            raise ValueError("give either `user` or `findings`")
        if self.user is not None and (self.unscannable or self.languages):
            raise ValueError("`unscannable` and `languages` go with `findings`")
        return self


class PolicyFile(Strict):
    """A policy file, whole."""

    version: Annotated[Literal[1], BeforeValidator(_no_bool)]
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
    public_figures: Literal["allow", "pin"] | None = None
    """Whether names of public figures count as persons (`pin`, also where no file says)."""
    destinations: tuple[DestinationPolicy, ...] = ()
    floors: tuple[Rule, ...] = ()
    """Rules that no exception and no allow-list reaches."""
    rules: tuple[Rule, ...] = ()
    allow_list: AllowList = AllowList()
    exceptions: tuple[ExceptionPolicy, ...] = ()
    tests: tuple[Case, ...] = ()
