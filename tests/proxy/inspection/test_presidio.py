"""Presidio behind our contract: found, placed, in order; and no failure of its own is hidden."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from presidio_analyzer import PatternRecognizer

from proxy.inspection.inline import inline_inspector
from proxy.inspection.presidio import (
    GATES,
    DetectorFailure,
    PresidioDetector,
    without_long_words,
)
from proxy.types import Inspection, Origin, Role, Segment

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def detector() -> PresidioDetector:
    return PresidioDetector("en")


def a_segment(text: str, index: int = 0) -> Segment:
    return Segment(index, "x", Role.USER, Origin.VALUE, text=text)


def test_finds_and_places_names_and_numbers(detector: PresidioDetector) -> None:
    text = "My name is Margaret Thornbury, call 212-555-0187 or mail m@example.org."
    found = {f.entity: text[f.start : f.end] for f in detector.detect([a_segment(text)])}
    assert found["PERSON"] == "Margaret Thornbury"
    assert found["PHONE_NUMBER"] == "212-555-0187"
    assert found["EMAIL_ADDRESS"] == "m@example.org"


def test_a_batch_finds_what_each_text_alone_does(detector: PresidioDetector) -> None:
    texts = ["Anna Berg lives in Oslo.", "Nothing here.", "4111 1111 1111 1111", "a@example.org"]
    batch = detector.detect([a_segment(text, index) for index, text in enumerate(texts)])
    alone = [f for i, text in enumerate(texts) for f in detector.detect([a_segment(text, i)])]
    assert list(batch) == alone


@pytest.mark.parametrize("gap", [0, 30, 100, 400])
def test_finds_phone_numbers_wherever_they_stand(detector: PresidioDetector, gap: int) -> None:
    text = f"{'word ' * gap}(212) 555-0187{' word' * gap} +44 20 7946 0958"
    found = [f for f in detector.detect([a_segment(text)]) if f.entity == "PHONE_NUMBER"]
    assert {text[f.start : f.end] for f in found} >= {"(212) 555-0187", "+44 20 7946 0958"}


def test_a_warning_of_presidio_is_a_failure(detector: PresidioDetector) -> None:
    logger = logging.getLogger("presidio-analyzer")
    with pytest.raises(DetectorFailure), detector._warnings:
        logger.warning("a pattern timed out on this very text")


def test_an_exception_of_the_model_is_never_an_empty_list(
    detector: PresidioDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(detector._engine.pipeline, "pipe", broken)
    with pytest.raises(RuntimeError):
        detector.detect([a_segment("Anna Berg lives in Oslo.")])


@pytest.mark.parametrize("signs", ["=", "_", "[]", "'s", "US$", "\U0001f600", "'+'"])
def test_a_long_row_of_signs_costs_no_more_than_a_text(
    detector: PresidioDetector, signs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer: Any = detector._engine.pipeline.tokenizer
    search, searched = tokenizer.suffix_search, []

    def counted(text: str) -> object:
        searched.append(len(text))
        return search(text)

    monkeypatch.setattr(tokenizer, "suffix_search", counted)
    text = f"{signs * (4_000 // len(signs))} Ask Anna Berg."
    found = detector.detect([a_segment(text)])

    assert sum(searched) < 250 * len(text)
    assert "Anna Berg" in {text[one.start : one.end] for one in found}


@given(st.text("a\u00e9_-. ", min_size=180, max_size=900))
def test_breaking_long_words_moves_nothing(text: str) -> None:
    broken = without_long_words(text)

    assert len(broken) == len(text)
    assert all(
        new == old or (new == " " and not old.isalnum())
        for new, old in zip(broken, text, strict=True)
    )
    assert not re.search(r"[^\w\s]{402}", broken)


def test_keeps_no_word_of_a_text_in_its_vocabulary(detector: PresidioDetector) -> None:
    detector.detect([a_segment("Zzyzxquux wrote to Vrblfnord about it.")])
    strings = detector._engine.pipeline.vocab.strings
    assert "Zzyzxquux" not in strings
    assert "Vrblfnord" not in strings


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_no_gate_shuts_before_a_match(detector: PresidioDetector, data: st.DataObject) -> None:
    gated = [r for r in detector._analyzer.registry.recognizers if type(r).__name__ in GATES]
    assert len(gated) == len(GATES)
    recognizer = data.draw(st.sampled_from(gated))
    assert isinstance(recognizer, PatternRecognizer)
    gate = GATES[type(recognizer).__name__]
    pattern = data.draw(st.sampled_from(vars(recognizer)["patterns"]))
    text = data.draw(
        st.from_regex(pattern.regex.replace("(?i)", ""), alphabet=st.characters(max_codepoint=255))
        | st.text("aAbB19 -.]/:xX\u0661", max_size=30)
    )
    found = re.search(pattern.regex, text, re.IGNORECASE | re.MULTILINE | re.DOTALL)
    assert gate.search(text) or not found


def test_context_raises_a_score_as_presidio_would(detector: PresidioDetector) -> None:
    def score(text: str) -> float:
        found = detector.detect([a_segment(text)])
        return max(f.score for f in found if f.entity == "US_BANK_NUMBER")

    assert score("My bank account is 945456787654") > score("The part is 945456787654")


GUARD = """
import sys
from typing import Any
def refuse(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "urllib.Request"):
        raise SystemExit("it called out: " + event)
sys.addaudithook(refuse)
from proxy.inspection.inline import inline_inspector
inspection = inline_inspector(("en",))(
    {"messages": [{"role": "user", "content": "Mail jane.doe@example-mail.co.uk, Anna Berg."}]}
)
assert "EMAIL_ADDRESS" in {f.entity for f in inspection.findings}
assert "torch" not in sys.modules
print("silent")
"""


def test_calls_nobody_and_loads_no_torch() -> None:
    done = subprocess.run(
        [sys.executable, "-c", GUARD],
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.getcwd()},
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "silent"), done.stderr[-500:]


def test_reads_the_names_of_every_language_that_has_a_model() -> None:
    inspect = inline_inspector(("en", "fr"))

    def said(text: str) -> Inspection:
        return inspect({"messages": [{"role": "user", "content": text}]})

    letter = "Bonjour, je vous écris au sujet de la visite que Ghislaine Vautrin a faite hier."
    inspection = said(letter)
    assert (inspection.languages, inspection.unscannable) == (("fr",), ())
    people = {letter[f.start : f.end] for f in inspection.findings if f.detector == "presidio"}
    assert "Ghislaine Vautrin" in people
    assert said("Wer hat das Buch geschrieben, das wir gestern gelesen haben?").unscannable
    card = said("Bitte nehmen Sie die Karte 4111 1111 1111 1111 für die Zahlung, danke sehr.")
    assert "CREDIT_CARD" in {f.entity for f in card.findings if f.detector == "presidio"}
