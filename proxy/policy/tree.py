"""How `policy explain` shows itself: a tree for people, JSON for programs.

The text that was found is shown only where the caller hands it over; a path may hold a client's own
key, so paths are shown with it or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict

from rich.text import Text
from rich.tree import Tree

from proxy.policy.explain import Explanation, Seen
from proxy.types import Inspection


def as_json(found: Explanation) -> str:
    """An explanation as JSON; no text of the request is in it."""
    decision = found.decision
    return json.dumps(
        {
            "action": decision.action.value,
            "rules": [rule.id for rule in decision.rules],
            "destinations": [d.id for d in decision.destinations] if decision.may_leave else [],
            "policy": decision.policy_digest,
            "findings": [asdict(seen) for seen in found.seen],
            "unscannable": list(found.unscannable),
            "said": [asdict(said) for said in found.said],
            "open": [asdict(one) for one in found.destinations],
            "notes": list(found.notes),
        },
        indent=2,
    )


def as_tree(found: Explanation, show: Callable[[Seen], str] | None = None) -> Tree:
    """An explanation as a tree; ``show`` gives the words and the place of a finding."""
    decision = found.decision
    by = ", ".join(rule.id for rule in decision.rules) or "the default"
    tree = Tree(Text(f"{decision.action.value} by {by}", style="bold"))
    for note in found.notes:
        tree.add(Text(f"note: {note}", style="italic"))
    _add_findings(tree, found, show)
    winners = {rule.id for rule in decision.rules}
    rules = tree.add(Text("rules"))
    for said in found.said:
        mark = "=>" if said.rule.id in winners else "+ " if said.matched else "- "
        head = f"{mark} {said.rule.id} ({said.rule.file}:{said.rule.line}) {said.action}"
        style = "bold" if said.rule.id in winners else "" if said.matched else "dim"
        rules.add(Text(f"{head}: {said.why}", style=style))
    if found.destinations:
        destinations = tree.add(Text("destinations"))
        for one in found.destinations:
            mark = "+ " if one.is_open else "- "
            destinations.add(
                Text(f"{mark} {one.id}: {one.why}", style="" if one.is_open else "dim")
            )
    return tree


def _add_findings(tree: Tree, found: Explanation, show: Callable[[Seen], str] | None) -> None:
    if not found.seen and not found.unscannable:
        tree.add(Text("nothing found"))
        return
    branch = tree.add(Text("found"))
    for seen in found.seen:
        view = "" if seen.view == "raw" else f", read as {seen.view}"
        counts = "" if seen.counts else ", on the allow-list"
        words = f": {show(seen)}" if show else ""
        head = f"{seen.entity} {seen.score:.2f} by {seen.detector}"
        branch.add(Text(f"{head} in {seen.place}{view}{counts}{words}"))
    for reason in found.unscannable:
        branch.add(Text(f"not inspected: {reason}"))


def words_of(inspection: Inspection, seen: Seen) -> str:
    """The words that a finding stands on, and their path: for a terminal, and nothing else."""
    finding = inspection.findings[seen.number]
    segment = next(one for one in inspection.segments if one.index == finding.segment)
    words = (segment.text or "")[finding.start : finding.end]
    return f"{words!r} at {segment.path!r}"
