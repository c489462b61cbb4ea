"""What is wrong between the parts of policy files that are each well formed.

Each fault keeps the policy from loading.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import re2

from proxy.inspection.entities import ENTITIES
from proxy.policy.language import PolicyFile
from proxy.policy.model import BUILT_IN, DEFAULT, LoadedFile
from proxy.policy.problems import Problem, fault_at, named, near
from proxy.policy.reader import Place
from proxy.policy.recognizerfaults import pattern_problem, recognizer_faults
from proxy.types import Action

#: Findings so unlike each other that what matches all of them matches anything.
_UNLIKE: Final = ("Jane Doe", "4111111111111111", "jane.doe@example.com")


def faults_of(files: Sequence[tuple[Path, LoadedFile]]) -> Iterator[Problem]:
    """What is wrong between the parts of files that are each well formed."""
    path, root = files[0]
    rules = {DEFAULT: (root.content.default or Action.BLOCK, False)}
    for file, loaded in files:
        for key in ("floors", "rules"):
            for index, rule in enumerate(getattr(loaded.content, key)):
                if rule.id in rules or rule.id in BUILT_IN:
                    yield fault_at(
                        file,
                        loaded,
                        (key, index, "id"),
                        "RF106",
                        f"id {rule.id!r} is taken",
                        "give the rule an id of its own",
                    )
                rules[rule.id] = (rule.action, key == "floors")
    yield from _destination_faults(path, root)
    yield from _exception_faults(path, root, rules)
    yield from _allow_list_faults(path, root)
    yield from recognizer_faults(files)
    yield from _entity_faults(files)


def _allow_list_faults(path: Path, root: LoadedFile) -> Iterator[Problem]:
    for index, entry in enumerate(root.content.allow_list.patterns):
        place: Place = ("allow_list", "patterns", index, "value")
        if problem := pattern_problem(entry.value):
            text, fix = problem
            yield fault_at(path, root, place, "RF112", text, fix)
        elif all(re2.fullmatch(entry.value, text) for text in _UNLIKE):
            text = "the pattern lets any text through"
            yield fault_at(path, root, place, "RF114", text, "name what is harmless")


def _entity_faults(files: Sequence[tuple[Path, LoadedFile]]) -> Iterator[Problem]:
    """Entities that neither a detector nor a recognizer of any of the files finds."""
    own = {given.entity for _, loaded in files for given in loaded.content.recognizers}
    known = {*ENTITIES, *own}
    for file, loaded in files:
        for place, entity in _named_entities(loaded.content):
            if entity not in known:
                text = f"{named(place)}: entity {entity!r} is not known"
                fix = f"name an entity that detectors find{near(entity, known)}"
                yield fault_at(file, loaded, place, "RF104", text, fix)


def _named_entities(content: PolicyFile) -> Iterator[tuple[Place, str]]:
    """Every entity that a file names, and where."""
    for key in ("floors", "rules"):
        for index, rule in enumerate(getattr(content, key)):
            place: Place = (key, index, "when")
            yield from (((*place, "entities"), entity) for entity in rule.when.entities)
            for number, part in enumerate(rule.when.all_of):
                inner = (*place, "all_of", number, "entities")
                yield from ((inner, entity) for entity in part.entities)
    for index, destination in enumerate(content.destinations):
        place = ("destinations", index, "only_for", "entities_absent")
        yield from ((place, entity) for entity in destination.only_for.entities_absent)
    if content.responses is not None:
        yield from ((("responses", "entities"), entity) for entity in content.responses.entities)
    for index, case in enumerate(content.tests):
        for number, finding in enumerate(case.findings or ()):
            yield ("tests", index, "findings", number, "entity"), finding.entity


def _destination_faults(path: Path, root: LoadedFile) -> Iterator[Problem]:
    seen: set[str] = set()
    for index, destination in enumerate(root.content.destinations):
        if destination.id in seen:
            place: Place = ("destinations", index, "id")
            text = f"id {destination.id!r} is taken"
            yield fault_at(
                path, root, place, "RF106", text, "give the destination an id of its own"
            )
        seen.add(destination.id)


def _exception_faults(
    path: Path, root: LoadedFile, rules: dict[str, tuple[Action, bool]]
) -> Iterator[Problem]:
    seen: set[str] = set()
    for index, given in enumerate(root.content.exceptions):
        place: Place = ("exceptions", index)
        if given.id in seen or given.id in rules:
            text = f"id {given.id!r} is taken"
            yield fault_at(path, root, (*place, "id"), "RF106", text, "give it an id of its own")
        seen.add(given.id)
        action, is_floor = rules.get(given.loosens, (None, False))
        inner = (*place, "loosens")
        if action is None:
            text = f"rule {given.loosens!r} does not exist"
            yield fault_at(
                path, root, inner, "RF107", text, f"name a rule{near(given.loosens, rules)}"
            )
        elif is_floor:
            text = f"{given.loosens!r} is a floor, which nothing loosens"
            yield fault_at(path, root, inner, "RF108", text, "remove the exception")
        elif given.to.strictness >= action.strictness:
            text = f"{given.to.value} is no looser than {action.value}"
            yield fault_at(path, root, (*place, "to"), "RF109", text, "remove the exception")
