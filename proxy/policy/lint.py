"""Says what is wrong with a policy before it is in force: where, what, and how to mend it.

It goes on after the first fault: the parts that are well formed are looked at all the same.
"""

from __future__ import annotations

import copy
import datetime as dt
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from proxy.errors import PolicyError
from proxy.inspection.entities import ENTITIES
from proxy.policy.faults import faults_of
from proxy.policy.language import Case, Condition, PolicyFile, Rule, Scope
from proxy.policy.model import DEFAULT, LoadedFile
from proxy.policy.problems import Problem, Severity, read_content
from proxy.policy.reader import Document, Place
from proxy.policy.source import loaded_file, read_documents
from proxy.types import Action, Category, MaskWith, OnLocalFailure

#: Days before an end that is worth a note.
SOON = dt.timedelta(days=30)

#: Six months in days. Source: Regulation (EU) 2024/1689, articles 19(1) and 26(6).
SHORTEST_RETENTION = 183

_STAND_INS: dict[str, object] = {"version": 1, "pack": "unnamed", "revision": 1, "owner": "nobody"}


def lint(path: Path) -> tuple[str, ...]:
    """Every problem of the policy at ``path``, each with its place and its mend."""
    return tuple(str(problem) for problem in examine(path, dt.datetime.now(dt.UTC).date()))


def examine(path: Path, today: dt.date) -> tuple[Problem, ...]:
    """Every problem of the policy at ``path`` as of ``today``, by place."""
    unread = ""
    try:
        documents = read_documents(path)
    except PolicyError as error:
        unread = error.public_message
    if unread:
        return (_unread(path, unread),)
    found: list[Problem] = []
    files: list[tuple[Path, LoadedFile]] = []
    for document in documents:
        loaded, faults = _salvage(document)
        found += faults
        files.append((document.path, loaded))
    found += faults_of(files)
    found += _Advice(files, today).all()
    return tuple(sorted(set(found)))


def _unread(path: Path, message: str) -> Problem:
    """A fault of the reader's, which says its own place where it knows one."""
    file, line, column, text = str(path), 1, 1, message
    parts = message.split(":", 3)
    if len(parts) == 4 and parts[1].isdigit() and parts[2].isdigit():
        file, line, column, text = parts[0], int(parts[1]), int(parts[2]), parts[3].strip()
    else:
        text = message.removeprefix(f"{path}: ")
    return Problem(file, line, column, "RF001", text, "mend the file", Severity.FAULT)


def _salvage(document: Document) -> tuple[LoadedFile, list[Problem]]:
    """The file without its broken parts, and what broke them."""
    members: dict[str, Any] = copy.deepcopy(document.members)
    kept = {key: list(range(len(part))) for key, part in members.items() if isinstance(part, list)}
    content, first = read_content(document, members)
    faults = first
    while content is None and faults:
        for place in _broken(document, members):
            _drop(members, kept, place)
        content, faults = read_content(document, members)
    content = content or PolicyFile.model_validate(_STAND_INS)
    return loaded_file(document, content, _renumbered(document, kept)), first


def _renumbered(document: Document, kept: dict[str, list[int]]) -> dict[Place, tuple[int, int]]:
    """Where the parts stand, numbered as they are without those that were left out."""
    places: dict[Place, tuple[int, int]] = {}
    for place, where in document.places.items():
        indices = kept.get(str(place[0])) if len(place) > 1 else None
        if indices is None:
            places[place] = where
        elif place[1] in indices:
            places[place[0], indices.index(int(place[1])), *place[2:]] = where
    return places


def _broken(document: Document, members: dict[str, Any]) -> list[Place]:
    """The parts to leave out: the entry of a list, or the whole key; later entries first."""
    from pydantic import ValidationError

    places: set[Place] = set()
    try:
        PolicyFile.model_validate(members)
    except ValidationError as error:
        for fault in error.errors(include_url=False, include_context=False, include_input=False):
            place: Place = tuple(fault["loc"])
            depth = 2 if len(place) > 1 and isinstance(place[1], int) else 1
            places.add(place[:depth])
    return sorted(places, key=lambda p: (str(p[0]), -int(p[1]) if len(p) > 1 else 0))


def _drop(members: dict[str, Any], kept: dict[str, list[int]], place: Place) -> None:
    key = str(place[0])
    if len(place) > 1:
        del members[key][int(place[1])]
        del kept[key][int(place[1])]
    elif key in _STAND_INS:
        members[key] = _STAND_INS[key]
    else:
        members.pop(key, None)


class _Advice:
    """What is allowed and still not wise."""

    def __init__(self, files: list[tuple[Path, LoadedFile]], today: dt.date) -> None:
        self._path, self._root = files[0]
        self._files = files
        self._content = self._root.content
        self._today = today
        self._entities = {
            **{r.entity: r.category for _, file in files for r in file.content.recognizers},
            **ENTITIES,
        }

    def all(self) -> Iterator[Problem]:
        """Every piece of advice on the file in force."""
        yield from self._default()
        yield from self._untested()
        for _, key, index, rule in self._own_rules():
            yield from self._rule(key, index, rule)
        yield from self._unreachable()
        yield from self._ends()
        yield from self._destinations()
        yield from self._record()

    def _at(self, place: Place, code: str, text: str, fix: str, *, note: bool = False) -> Problem:
        while place and place not in self._root.lines:
            place = place[:-1]
        line, column = self._root.lines.get(place, (1, 1))
        severity = Severity.NOTE if note else Severity.ERROR
        return Problem(str(self._path), line, column, code, text, fix, severity)

    def _own_rules(self) -> Iterator[tuple[LoadedFile, str, int, Rule]]:
        for key in ("floors", "rules"):
            for index, rule in enumerate(getattr(self._content, key)):
                yield self._root, key, index, rule

    def _default(self) -> Iterator[Problem]:
        default = self._content.default
        if default is None:
            fix = "say what may happen at the most: allow, mask, local_only or block"
            yield self._at((), "RF201", "no `default`: every request is blocked", fix)
        leaves = default in (Action.ALLOW, Action.MASK)
        if default and leaves and not self._content.destinations and not self._is_pack():
            text = f"`default: {default.value}` without a destination: nothing can leave"
            yield self._at(("default",), "RF203", text, "add a destination", note=True)

    def _is_pack(self) -> bool:
        """A file of rules that others include."""
        return not self._content.destinations and not self._content.include

    def _untested(self) -> Iterator[Problem]:
        if not self._content.tests:
            yield self._at((), "RF301", "no tests", "add some under `tests`")
            return
        expected = {case.expect.rule for case in self._content.tests}
        for _, key, index, rule in self._own_rules():
            if rule.id not in expected:
                text = f"no test expects rule {rule.id}"
                fix = f"add one with `expect: {{action: {rule.action.value}, rule: {rule.id}}}`"
                yield self._at((key, index, "id"), "RF302", text, fix)
        if not any(_is_free(case, self._content.default) for case in self._content.tests):
            text = "no test expects the default to decide"
            yield self._at(("tests",), "RF303", text, "add a request that no rule matches")

    def _rule(self, key: str, index: int, rule: Rule) -> Iterator[Problem]:
        place: Place = (key, index)
        default = self._content.default
        same = rule.mask_with.strictness <= MaskWith.PLACEHOLDER.strictness  # as a default masks
        if default is not None and rule.action.strictness <= default.strictness and same:
            text = f"rule {rule.id} never decides: the default is as strict"
            yield self._at((*place, "action"), "RF401", text, "remove it, or weaken the default")
        if rule.message and rule.action is not Action.BLOCK:
            text = f"rule {rule.id}: only a blocked client sees a message"
            yield self._at((*place, "message"), "RF402", text, "remove it", note=True)
        for _, loaded in self._files:
            for other in (*loaded.content.floors, *loaded.content.rules):
                if other is not rule and self._shadows(other, loaded.content.scope, rule):
                    text = f"rule {rule.id} never decides: {other.id} covers it"
                    fix = "remove it, or make it stricter or wider"
                    yield self._at((*place, "id"), "RF403", text, fix)

    def _shadows(self, other: Rule, file_scope: Scope, rule: Rule) -> bool:
        """Whether ``other`` matches whatever ``rule`` does, and is stricter, or comes first."""
        if other.action.strictness < rule.action.strictness or other.id == rule.id:
            return False
        if file_scope != Scope() or not covers(other, rule, self._entities):
            return False
        more = rule.when.all_of and not other.when.always
        if other.action is Action.MASK and (more or rule.mask_with is not other.mask_with):
            return False  # it masks more, or in another way
        if other.action is not rule.action:
            return True
        # of two rules that cover each other, the one by name is kept
        return not covers(rule, other, self._entities) or other.id < rule.id

    def _ends(self) -> Iterator[Problem]:
        dated: list[tuple[Place, str, dt.date]] = [
            (("exceptions", i, "until"), f"exception {e.id}", e.until)
            for i, e in enumerate(self._content.exceptions)
        ]
        for key in ("terms", "domains", "patterns"):
            entries = getattr(self._content.allow_list, key)
            dated += [
                (("allow_list", key, i, "until"), f"allow-list entry {i + 1} of {key}", entry.until)
                for i, entry in enumerate(entries)
            ]
        if self._content.valid.until:
            dated.append((("valid", "until"), "the policy", self._content.valid.until))
        for place, name, until in dated:
            if until < self._today:
                text = f"{name} ended on {until}"
                yield self._at(place, "RF501", text, "remove it, or have it approved anew")
            elif until - self._today <= SOON:
                text = f"{name} ends on {until}"
                yield self._at(place, "RF502", text, "plan its successor", note=True)
        for place, text in self._loosening():
            yield self._at(place, "RF503", text, "keep it only if needed", note=True)

    def _loosening(self) -> Iterator[tuple[Place, str]]:
        """Every construct that lets more through than the rules say."""
        content = self._content
        for i, given in enumerate(content.exceptions):
            text = f"exception {given.id} loosens {given.loosens} to {given.to.value}"
            yield ("exceptions", i), text
        for key in ("terms", "domains", "patterns"):
            for i, entry in enumerate(getattr(content.allow_list, key)):
                yield ("allow_list", key, i), f"{entry.value!r} is allowed until {entry.until}"
        for i, one in enumerate(content.recognizers):
            if one.languages:
                text = f"{one.entity} is not looked for in texts of other languages"
                yield ("recognizers", i, "languages"), text
        if content.public_figures == "allow":
            yield ("public_figures",), "names of no private person do not count as persons"
        if content.on_local_failure is OnLocalFailure.CLOUD:
            yield ("on_local_failure",), "requests leave when the local tier is down"
        if content.unrecorded_local:
            yield ("unrecorded_local",), "answers are given that no record tells of"

    def _unreachable(self) -> Iterator[Problem]:
        """Conditions that no finding of a recognizer can meet."""
        best: dict[str, float] = {}
        for _, loaded in self._files:
            for one in loaded.recognizers():
                best[one.entity] = max(best.get(one.entity, 0.0), one.max_score)
        for _, key, index, rule in self._own_rules():
            whens: list[tuple[Place, Condition]] = [((key, index, "when"), rule.when)]
            whens += [
                ((key, index, "when", "all_of", n), part) for n, part in enumerate(rule.when.all_of)
            ]
            for place, when in whens:
                for entity in () if when.categories else when.entities:
                    if entity not in ENTITIES and best.get(entity, 1.0) < when.min_score:
                        text = f"no recognizer of {entity} reaches {when.min_score:g}"
                        fix = f"ask for {best[entity]:g} at the most"
                        yield self._at((*place, "min_score"), "RF404", text, fix)

    def _destinations(self) -> Iterator[Problem]:
        for index, destination in enumerate(self._content.destinations):
            if destination.transfer.training:
                text = f"destination {destination.id} may train on what it gets"
                place: Place = ("destinations", index, "transfer", "training")
                yield self._at(place, "RF601", text, "agree on `training: false`", note=True)
            if not destination.stream_usage:
                text = f"streams of destination {destination.id} have an unknown cost"
                place = ("destinations", index, "stream_usage")
                fix = "leave it out, unless the provider refuses `stream_options`"
                yield self._at(place, "RF602", text, fix, note=True)

    def _record(self) -> Iterator[Problem]:
        days = self._content.record.retention_days
        if days is not None and days < SHORTEST_RETENTION:
            text = f"records are removed after {days} days; logs of high-risk uses are kept longer"
            fix = f"keep them for {SHORTEST_RETENTION} days, unless you know that you may not"
            yield self._at(("record", "retention_days"), "RF701", text, fix, note=True)
        if self._content.record.train_on_answers:
            text = "the answers of clouds are kept, encrypted to an auditor, to learn from"
            fix = "say `train_on_answers: false`, unless you want to train on them and may"
            yield self._at(("record", "train_on_answers"), "RF702", text, fix, note=True)


def _is_free(case: Case, default: Action | None) -> bool:
    return case.expect.action is (default or Action.BLOCK) and case.expect.rule in (None, DEFAULT)


def covers(other: Rule, rule: Rule, entities: Mapping[str, Category]) -> bool:
    """Whether each request that ``rule`` matches is matched by ``other`` too; false if unsure."""
    mine, theirs = rule.when, other.when
    for key in Scope.model_fields:
        if not _any_or_within(getattr(rule.scope, key), getattr(other.scope, key)):
            return False
    if theirs.always:
        return True
    if theirs.all_of or not theirs.counts_findings or not mine.counts_findings:
        return theirs == mine
    known = [entity for entity in mine.entities if entity in entities]
    return (
        len(known) == len(mine.entities)
        and all(e in theirs.entities or entities[e] in theirs.categories for e in known)
        and set(mine.categories) <= set(theirs.categories)
        and mine.min_score >= theirs.min_score
        and mine.min_count >= theirs.min_count
        and _any_or_within(mine.roles, theirs.roles)
        and _any_or_within(mine.paths, theirs.paths)
        and _any_or_within(mine.languages, theirs.languages)
        and _any_or_within(mine.unscannable, theirs.unscannable)
    )


def _any_or_within(mine: tuple[Any, ...], theirs: tuple[Any, ...]) -> bool:
    return not theirs or (bool(mine) and set(mine) <= set(theirs))
