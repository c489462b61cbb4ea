"""Why an answer came from where it came: from the headers, else from the record on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from audit.ledger import Ledger
from proxy.commands.ask import explain, recorded_route
from proxy.local.ask import Told
from proxy.records import decision_record
from proxy.types import Confidence, Route, RouteReason, Target
from tests.factories import a_decision, a_request, an_inspection

HOME = Route(Target.LOCAL, RouteReason.CLOUD_UNAVAILABLE)


@pytest.fixture
async def ledger_dir(tmp_path: Path) -> Path:
    """A ledger with one decision in it."""
    ledger = Ledger.open(tmp_path / "ledger", keys_dir=tmp_path / "keys")
    confidence = Confidence(-0.25, -0.6, "mean_logprob", doubts=("hedge:i don't know",))
    await ledger.decision(
        decision_record(a_request(), an_inspection(), a_decision(), (HOME, confidence), ())
    )
    await ledger.close()
    return tmp_path / "ledger"


async def test_takes_what_the_headers_show(tmp_path: Path) -> None:
    told = Told(True, "", "dec_1", {"route": "cloud", "reason": "low_confidence"})
    assert explain(told, tmp_path) == "decision dec_1 · route cloud · reason low_confidence"


async def test_reads_the_record_where_no_header_shows_it(ledger_dir: Path) -> None:
    told = Told(True, "", a_decision().decision_id, {})
    assert explain(told, ledger_dir) == (
        f"decision {a_decision().decision_id} · "
        "route local · reason cloud_unavailable · confidence -0.250 · threshold -0.600 · "
        "by mean_logprob · doubts hedge:i don't know"
    )


@pytest.mark.parametrize("decision_id", ["", "dec_", "rec_1"])
async def test_takes_no_record_but_the_very_one(ledger_dir: Path, decision_id: str) -> None:
    assert recorded_route(ledger_dir, decision_id) == {}


async def test_says_that_there_is_no_record(tmp_path: Path) -> None:
    assert "no record" in explain(Told(True, "", "", {}), tmp_path)
