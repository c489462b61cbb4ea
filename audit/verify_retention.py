"""Holds what was removed against the records that say so: none goes unsaid, early or held."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from audit.places import Places
from audit.retention import PRUNED, Event, event_of, holds_at
from audit.verify_chains import ChainFacts, PrunedSegment, Report

#: How far a clock may have been set back between a removal and the record of it.
_SLACK = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class _Claim:
    """What a record says that was removed."""

    event: Event
    file: str
    before: str
    days: int

    @classmethod
    def of(cls, event: Event) -> _Claim | None:
        """The claim of a record; None where it has not the form."""
        match event.detail:
            case {"file": str(file), "before": str(before), "days": int(days)}:
                return cls(event, file, before, days)
        return None


def check_retention(chains: Mapping[str, ChainFacts], places: Places, report: Report) -> bool:
    """Check each pruned segment; gives whether one of them lacks its record.

    A segment is pruned rightly if a sealed record names it, the checkpoint that seals its last
    record is older than that says, and no hold on its time was in force.
    """
    events = _events(chains, places)
    claims: dict[tuple[object, object, object], list[_Claim]] = {}
    for event in events:
        if event.kind == PRUNED and (claim := _Claim.of(event)) is not None:
            said = event.detail
            named = (said.get("of"), said.get("first"), said.get("end"))
            claims.setdefault(named, []).append(claim)
    lacks_one = False
    for name, facts in chains.items():
        for segment in facts.pruned:
            report.num_removed += segment.num_removed
            found = claims.get((name, segment.first, segment.end), [])
            fitting = [claim for claim in found if claim.file == segment.digest]
            if not fitting:
                lacks_one = True
                report.fault(segment.file, 0, "records are gone, and no sealed record says so")
                continue
            place = places.of(name, segment.end - 1)
            problem = _problem(fitting[0], place.time if place else "", events)
            if problem:
                report.fault(segment.file, 0, problem)
            _tell(fitting[0], segment, report)
        stems = {segment.first for segment in facts.pruned}
        report.unfinished_removals += [
            f"wal/{name} from record {first}"
            for (of, first, _) in claims
            if of == name and first not in stems
        ]
    report.holds = [hold.name for hold in holds_at(events)]
    return lacks_one


def _events(chains: Mapping[str, ChainFacts], places: Places) -> list[Event]:
    """The sealed records about retention, in the order of the tree."""
    found = []
    for name, facts in chains.items():
        for seq, members in facts.retention:
            place = places.of(name, seq)
            if place is not None and (event := event_of(members, place.leaf)) is not None:
                found.append(event)
    return sorted(found, key=lambda event: event.leaf)


def _problem(claim: _Claim, sealed_at: str, events: list[Event]) -> str:
    detail = claim.event.detail
    if not sealed_at or sealed_at[:19] >= claim.before or not _is_due(claim):
        return "records were removed before their time"
    for hold in holds_at(events, claim.event.leaf):
        if not hold.app and hold.meets(str(detail.get("from")), str(detail.get("to"))):
            return f"records were removed while hold {hold.name} was in force"
    return ""


def _is_due(claim: _Claim) -> bool:
    try:
        before = datetime.fromisoformat(f"{claim.before}+00:00")
        recorded = datetime.fromisoformat(claim.event.time)
        is_due = before + timedelta(days=claim.days) <= recorded + _SLACK
        return claim.days >= 0 and is_due
    except (ValueError, OverflowError):
        return False


def _tell(claim: _Claim, segment: PrunedSegment, report: Report) -> None:
    """Add to what the report says of removals; what the same run removed is one."""
    detail = claim.event.detail
    since, until = str(detail.get("from")), str(detail.get("to"))
    key = (claim.days, claim.before, str(detail.get("by")))
    for one in report.removals:
        if (one["days"], one["before"], one["by"]) == key:
            one["records"] = int(str(one["records"])) + segment.num_removed
            one["from"], one["to"] = min(str(one["from"]), since), max(str(one["to"]), until)
            return
    report.removals.append(
        {
            "records": segment.num_removed,
            **{"from": since, "to": until, "days": claim.days},
            **{"before": claim.before, "by": key[2]},
        }
    )
