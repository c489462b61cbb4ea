"""The policy in force: files joined and compiled, so that a decision takes microseconds.

Joining never loosens: rules add up, the strictest default holds, and what opens anything
(destinations, exceptions, allow-list) counts only where the file in force says it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, Final, Literal

import re2

from proxy.inspection.entities import ENTITIES, PUBLIC_NAMES
from proxy.inspection.linear import compile_linear
from proxy.inspection.recognizers import Recognizer, Recognizers
from proxy.policy.language import (
    Condition,
    DestinationPolicy,
    ExceptionPolicy,
    PolicyFile,
    RecognizerPolicy,
    RecordPolicy,
    Rule,
    Scope,
    Valid,
)
from proxy.policy.termfiles import TermFile
from proxy.types import (
    Action,
    AnswerScan,
    Category,
    Destination,
    MaskWith,
    Role,
    RuleRef,
    Transfer,
    UnscannableReason,
)

__all__ = ["Policy", "PolicyFile", "Rule"]

#: Ids of the votes that are not rules of a file.
DEFAULT: Final = "default"
UNSCANNABLE: Final = "on_unscannable"
TIMEOUT: Final = "on_detector_timeout"
DERIVED: Final = "derived"
OUT_OF_SCOPE: Final = "out_of_scope"
NOT_VALID: Final = "not_valid"
UNKNOWN_ENTITY: Final = "unknown_entity"
BUILT_IN: Final = frozenset(
    {DEFAULT, UNSCANNABLE, TIMEOUT, DERIVED, OUT_OF_SCOPE, NOT_VALID, UNKNOWN_ENTITY}
)

#: Callers whose rules are remembered.
MAX_CALLERS: Final = 1024

#: Order of a caller's values: `Scope`'s fields.
SCOPE_KEYS: Final = tuple(Scope.model_fields)


@dataclass(frozen=True, slots=True)
class LoadedFile:
    """A file of the policy: its name, its content, and where its parts stand."""

    name: str
    content: PolicyFile
    lines: Mapping[tuple[str | int, ...], tuple[int, int]]
    """From a path of keys to (line, column), both from 1."""
    term_files: tuple[TermFile, ...] = field(default=(), repr=False)

    def ref(self, id_: str, *path: str | int) -> RuleRef:
        """Reference to the part at ``path``."""
        return RuleRef(id_, self.name, self.lines.get(path, (1, 1))[0])

    def recognizers(self) -> Iterator[Recognizer]:
        """What this file recognizes, as the detectors take it."""
        words = {file.name: file.terms for file in self.term_files}
        for given in self.content.recognizers:
            yield _recognizer(given, words.get(given.terms_file or "", ()))


@dataclass(frozen=True, slots=True)
class ScopeMatcher:
    """The lists of a `Scope` that say something, by position in ``SCOPE_KEYS``."""

    wanted: tuple[tuple[int, frozenset[str]], ...]

    @classmethod
    def of(cls, *scopes: Scope) -> ScopeMatcher:
        """Matches what all of ``scopes`` match."""
        return cls(
            tuple(
                (position, frozenset(getattr(scope, key)))
                for scope in scopes
                for position, key in enumerate(SCOPE_KEYS)
                if getattr(scope, key)
            )
        )

    def matches(self, who: Sequence[str]) -> bool:
        """Whether a caller's values are all wanted."""
        for position, values in self.wanted:  # a loop: this runs a thousand times a decision
            if who[position] not in values:
                return False
        return True


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The entities that a policy may name. With ``pin``, a public figure counts as a person."""

    entities: Mapping[str, Category]
    public_figures: str

    def spelled_out(self, names: Iterable[str], categories: Sequence[Category]) -> frozenset[str]:
        """``names`` and the entities of ``categories``."""
        wanted = {*names, *(e for e, category in self.entities.items() if category in categories)}
        if self.public_figures == "pin" and "PERSON" in wanted:
            wanted |= PUBLIC_NAMES
        return frozenset(wanted)


@dataclass(frozen=True, slots=True)
class CompiledCondition:
    """A `Condition` with its categories spelled out; ``roles`` and ``paths``: None is any."""

    entities: frozenset[str]
    min_score: float
    min_count: int
    roles: frozenset[Role] | None
    paths: tuple[Any, ...] | None
    globs: frozenset[str]
    is_simple: bool
    """Whether the best score of each entity is enough to tell."""

    @classmethod
    def of(cls, condition: Condition, vocabulary: Vocabulary) -> CompiledCondition:
        """Compile ``condition``."""
        wanted = vocabulary.spelled_out(condition.entities, condition.categories)
        paths = tuple(path_pattern(path) for path in condition.paths)
        return cls(
            wanted,
            condition.min_score,
            condition.min_count,
            frozenset(condition.roles) or None,
            paths or None,
            frozenset(condition.paths),
            condition.min_count == 1 and not condition.roles and not condition.paths,
        )


@dataclass(frozen=True, slots=True)
class CompiledException:
    """An `ExceptionPolicy`, ready to match."""

    ref: RuleRef
    to: Action
    scope: ScopeMatcher
    until: dt.date


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """A rule, ready to match: in scope, and every condition holds."""

    ref: RuleRef
    action: Action
    mask_with: MaskWith
    message: str | None
    is_floor: bool
    scope: ScopeMatcher
    conditions: tuple[CompiledCondition, ...]
    languages: frozenset[str]
    unscannable: frozenset[UnscannableReason]
    exceptions: tuple[CompiledException, ...]


@dataclass(frozen=True, slots=True)
class Fallback:
    """What holds for every request, whatever was found."""

    default: Action
    default_ref: RuleRef
    exceptions: tuple[CompiledException, ...]
    scope: ScopeMatcher
    valid: tuple[Valid, ...]
    on_unscannable: Action
    on_detector_timeout: Action


@dataclass(frozen=True, slots=True)
class Allowed:
    """An entry of the allow-list; terms and domains are folded."""

    kind: Literal["term", "domain", "pattern"]
    value: str
    until: dt.date
    pattern: Any = field(default=None, compare=False, repr=False)

    def covers(self, text: str, *, is_address: bool) -> bool:
        """Whether a found text is what the entry names, to the letter."""
        if self.kind == "pattern":
            return bool(self.pattern.fullmatch(text))
        folded = text.casefold()
        if self.kind == "domain":
            return is_address and folded.rpartition("@")[2] == self.value
        return folded == self.value


@dataclass(frozen=True, slots=True)
class OpenDestination:
    """A destination, and which requests it is open to."""

    destination: Destination
    scope: ScopeMatcher
    absent: frozenset[str]


@dataclass(frozen=True)
class Policy:
    """A policy that was read and found good.

    ``content`` is the file in force with the rules, the default and the switches of all its
    includes; ``digest`` is ``sha256:`` and the hex digest over the bytes of all files.
    """

    file: str
    digest: str
    loaded_at: dt.datetime
    content: PolicyFile
    files: tuple[LoadedFile, ...] = field(repr=False)

    @cached_property
    def recognizers(self) -> Recognizers:
        """What all files recognize; none takes away what another one finds."""
        return Recognizers.of(r for loaded in self.files for r in loaded.recognizers())

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The entities of the detectors and of all recognizers, with their categories."""
        own = {r.entity: r.category for r in self.recognizers.all}
        return Vocabulary({**own, **ENTITIES}, self.content.public_figures or "pin")

    @cached_property
    def rules(self) -> tuple[CompiledRule, ...]:
        """All rules, the strictest first; within an action by place."""
        compiled = [
            self._compile(loaded, rule, (key, index))
            for loaded in self.files
            for key in ("floors", "rules")
            for index, rule in enumerate(getattr(loaded.content, key))
        ]
        return tuple(
            sorted(compiled, key=lambda r: (-r.action.strictness, r.ref.file, r.ref.line, r.ref.id))
        )

    @cached_property
    def by_entity(self) -> Mapping[str, tuple[int, ...]]:
        """Positions of the rules whose first condition an entity may meet."""
        found: dict[str, list[int]] = {}
        for position, rule in enumerate(self.rules):
            for entity in rule.conditions[0].entities if rule.conditions else ():
                found.setdefault(entity, []).append(position)
        return {entity: tuple(positions) for entity, positions in found.items()}

    @cached_property
    def for_caller(self) -> Callable[[tuple[str, ...]], frozenset[int]]:
        """Positions of the rules whose scope a caller is in; remembered, as callers come again."""

        @lru_cache(MAX_CALLERS)
        def positions(who: tuple[str, ...]) -> frozenset[int]:
            return frozenset(i for i, rule in enumerate(self.rules) if rule.scope.matches(who))

        return positions

    @cached_property
    def models_ruled(self) -> frozenset[str]:
        """The models that a rule is limited to."""
        place = SCOPE_KEYS.index("models")
        wanted = (names for rule in self.rules for key, names in rule.scope.wanted if key == place)
        return frozenset[str]().union(*wanted)

    @cached_property
    def general(self) -> tuple[int, ...]:
        """Positions of the rules that ask for no finding."""
        return tuple(i for i, rule in enumerate(self.rules) if not rule.conditions)

    @cached_property
    def fallback(self) -> Fallback:
        """What holds for every request."""
        root = self.files[0]
        return Fallback(
            default=self.content.default or Action.BLOCK,
            default_ref=root.ref(DEFAULT, "default"),
            exceptions=self._exceptions(DEFAULT),
            scope=ScopeMatcher.of(root.content.scope),
            valid=tuple(loaded.content.valid for loaded in self.files),
            on_unscannable=self.content.on_unscannable,
            on_detector_timeout=self.content.on_detector_timeout,
        )

    @cached_property
    def scan(self) -> AnswerScan | None:
        """How the answers of a cloud are inspected."""
        given = self.content.responses
        if given is None:
            return None
        wanted = self.vocabulary.spelled_out(given.entities, given.categories)
        return AnswerScan(given.scan, wanted, given.min_score)

    @cached_property
    def destinations(self) -> tuple[OpenDestination, ...]:
        """Every destination, and which requests it is open to."""
        return tuple(_open(one, self.vocabulary) for one in self.content.destinations)

    @cached_property
    def allowed(self) -> tuple[Allowed, ...]:
        """The allow-list."""
        given = self.files[0].content.allow_list
        return (
            *(Allowed("term", one.value.casefold(), one.until) for one in given.terms),
            *(Allowed("domain", one.value.casefold(), one.until) for one in given.domains),
            *(
                Allowed("pattern", one.value, one.until, compile_linear(one.value))
                for one in given.patterns
            ),
        )

    def compiled(self) -> Policy:
        """This policy, with all its compiled parts made."""
        _ = self.rules, self.by_entity, self.general, self.fallback, self.destinations, self.allowed
        _ = self.recognizers.version, self.for_caller, self.models_ruled
        return self

    def _compile(self, loaded: LoadedFile, rule: Rule, path: tuple[str, int]) -> CompiledRule:
        when = rule.when
        conditions = [*([when] if when.counts_findings else []), *when.all_of]
        is_floor = path[0] == "floors"
        return CompiledRule(
            ref=loaded.ref(rule.id, *path),
            action=rule.action,
            mask_with=rule.mask_with,
            message=rule.message,
            is_floor=is_floor,
            scope=ScopeMatcher.of(loaded.content.scope, rule.scope),
            conditions=tuple(CompiledCondition.of(part, self.vocabulary) for part in conditions),
            languages=frozenset(when.languages),
            unscannable=frozenset(when.unscannable),
            exceptions=() if is_floor else self._exceptions(rule.id),
        )

    def _exceptions(self, rule_id: str) -> tuple[CompiledException, ...]:
        """The exceptions for ``rule_id``, the loosest first; order is of no matter."""
        root = self.files[0]
        found = [
            _exception(root, given, index)
            for index, given in enumerate(root.content.exceptions)
            if given.loosens == rule_id
        ]
        return tuple(sorted(found, key=lambda e: (e.to.strictness, e.ref.id)))


def join(files: Sequence[LoadedFile]) -> PolicyFile:
    """The content of the file in force with what its includes add; never looser than it."""
    root = files[0].content
    contents = [loaded.content for loaded in files]
    given = [content.default for content in contents[1:] if content.default]
    figures = [content.public_figures for content in contents if content.public_figures]
    return root.model_copy(
        update={
            "default": _strictest([root.default or Action.BLOCK, *given]),
            "on_unscannable": _strictest(content.on_unscannable for content in contents),
            "on_detector_timeout": _strictest(content.on_detector_timeout for content in contents),
            "public_figures": "pin" if not figures or "pin" in figures else "allow",
            "record": _record(contents),
            "recognizers": tuple(r for content in contents for r in content.recognizers),
            "floors": tuple(_all(contents, "floors")),
            "rules": tuple(_all(contents, "rules")),
        }
    )


def _record(contents: Sequence[PolicyFile]) -> RecordPolicy:
    """How the record is kept: no file shortens what another asks for, and only the file in force
    has answers kept, unless an include forbids it.
    """
    records = [content.record for content in contents]
    days = [record.retention_days for record in records if record.retention_days]
    keeps = records[0].train_on_answers
    if any(record.train_on_answers is False for record in records):
        keeps = False
    return RecordPolicy(retention_days=max(days, default=None), train_on_answers=keeps)


def path_pattern(glob: str) -> Any:
    """The pattern of a place, in linear time whatever it is matched against."""
    return re2.compile("(?s)" + ".*".join(re2.escape(part) for part in glob.split("*")))


def _all(contents: Iterable[PolicyFile], key: str) -> Iterator[Rule]:
    for content in contents:
        yield from getattr(content, key)


def _strictest(actions: Iterable[Action]) -> Action:
    return max(actions, key=lambda action: action.strictness)


def _exception(root: LoadedFile, given: ExceptionPolicy, index: int) -> CompiledException:
    ref = root.ref(given.id, "exceptions", index)
    return CompiledException(ref, given.to, ScopeMatcher.of(given.scope), given.until)


def _recognizer(given: RecognizerPolicy, words: tuple[str, ...]) -> Recognizer:
    context = given.context
    return Recognizer(
        given.entity,
        given.category,
        given.score,
        pattern=given.pattern,
        terms=tuple(sorted({*given.terms, *words})),
        context_words=tuple(sorted(set(context.words))) if context else (),
        context_window=context.window if context else 0,
        context_boost=context.boost if context else 0.0,
        check=given.check,
        languages=tuple(sorted(set(given.languages))),
    )


def _open(given: DestinationPolicy, vocabulary: Vocabulary) -> OpenDestination:
    only = given.only_for
    absent = vocabulary.spelled_out(only.entities_absent, only.categories_absent)
    transfer = given.transfer
    destination = Destination(
        id=given.id,
        provider=given.provider,
        base_url=given.base_url,
        models=tuple(given.models),
        region=given.region,
        transfer=Transfer(
            recipient=transfer.recipient,
            country=transfer.country,
            basis=transfer.basis,
            retention=transfer.retention,
            training=transfer.training,
        ),
        stream_usage=given.stream_usage,
    )
    return OpenDestination(destination, ScopeMatcher.of(only.scope), absent)
