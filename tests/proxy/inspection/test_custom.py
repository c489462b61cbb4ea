"""A policy's own recognizers read every disguise that the detectors read."""

from __future__ import annotations

import pickle

import pytest

from proxy.inspection.custom import MAX_SETS, CustomSets, build_custom
from proxy.inspection.detector import Detector
from proxy.inspection.publicfigures import mark_public_figures
from proxy.inspection.reading import read_segments
from proxy.inspection.recognizers import CUSTOM, NO_RECOGNIZERS, Recognizer, Recognizers
from proxy.policy.disguises import FORMS
from proxy.types import Category, Origin, Role, Segment, UnscannableReason

BADGE = Recognizer("BADGE", Category.IDENTITY, 0.6, pattern=r"\bEMP-\d{8}\b")
WHALE = Recognizer("PROJECT", Category.BUSINESS, 0.8, terms=("Blue Whale", "Orca"))


def a_segment(text: str) -> Segment:
    return Segment(0, "messages[0].content", Role.USER, Origin.VALUE, text=text)


def read(
    text: str, *recognizers: Recognizer, languages: tuple[str, ...] = ("en",)
) -> list[tuple[str, str, float]]:
    """What is found: entity, the words it stands on, score."""
    detectors = build_custom(Recognizers.of(recognizers))
    readings, failed = read_segments([a_segment(text)], detectors, languages)
    assert failed == ()
    return [(f.entity, text[f.start : f.end], round(f.score, 3)) for f in readings[0].findings]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("entity", "value"), [("BADGE", "EMP-10423377"), ("PROJECT", "Blue Whale")]
)
def test_finds_its_own_in_every_form(entity: str, value: str, form: str) -> None:
    text = f"Please look at {FORMS[form](f' {value}')} now."
    assert entity in {found for found, _, _ in read(text, BADGE, WHALE)}


def test_group_one_is_the_value_where_it_took_part() -> None:
    either = Recognizer("BADGE", Category.IDENTITY, 0.6, pattern=r"badge (\d{4})|staff \d{4}")
    assert read("badge 1234, staff 5678", either) == [
        ("BADGE", "1234", 0.6),
        ("BADGE", "staff 5678", 0.6),
    ]


def test_a_context_word_nearby_raises_the_score() -> None:
    near = Recognizer(
        "BADGE",
        Category.IDENTITY,
        0.6,
        pattern=r"\b\d{6}\b",
        context_words=("employee", "staff number"),
        context_window=20,
        context_boost=0.7,
    )
    assert read("Employee 104233", near) == [("BADGE", "104233", 1.0)]
    assert read("104233 is his staff-number", near) == [("BADGE", "104233", 1.0)]
    assert read(f"employee {'x' * 20} 104233", near) == [("BADGE", "104233", 0.6)]
    assert read("order 104233", near) == [("BADGE", "104233", 0.6)]


def test_a_checksum_must_hold() -> None:
    card = Recognizer("LOYALTY", Category.FINANCIAL, 0.9, pattern=r"\b\d{16}\b", check="luhn")
    assert read("4111111111111111 4111111111111112", card) == [("LOYALTY", "4111111111111111", 0.9)]


def test_a_check_that_raises_clears_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> object:
        def check(text: str) -> bool:
            raise ValueError

        return check

    monkeypatch.setattr("proxy.inspection.custom.check_by_name", broken)
    card = Recognizer("LOYALTY", Category.FINANCIAL, 0.9, pattern=r"\b\d{4}\b", check="luhn")
    assert read("4111", card) == [("LOYALTY", "4111", 0.9)]


def test_a_text_that_is_surely_in_another_language_is_not_read() -> None:
    german = Recognizer("PROJECT", Category.BUSINESS, 0.8, terms=("Orca",), languages=("de",))
    english = "The orca is one of the animals that we have seen in the bay."
    assert read(english, german, languages=("de", "en")) == []
    assert read("Orca?", german, languages=("de", "en")) == [("PROJECT", "Orca", 0.8)]
    deutsch = "Der Orca ist eines der Tiere, die wir in der Bucht gesehen haben."
    assert read(deutsch, german, languages=("en", "de")) == [("PROJECT", "Orca", 0.8)]


def test_a_listed_name_stays_a_person_whatever_the_request_looks_like() -> None:
    text = "Who is Albert Einstein?"
    listed = Recognizer("PERSON", Category.IDENTITY, 0.9, terms=("Albert Einstein",))
    detectors = build_custom(Recognizers.of([listed]))
    [reading], _ = read_segments([a_segment(text)], detectors, ("en",))
    assert [f.entity for f in mark_public_figures([a_segment(text)], reading.findings)] == [
        "PERSON"
    ]


def test_the_version_tells_sets_apart_and_not_the_order_of_files() -> None:
    assert Recognizers.of([BADGE, WHALE]).version == Recognizers.of([WHALE, BADGE, WHALE]).version
    assert Recognizers.of([BADGE]).version != Recognizers.of([BADGE, WHALE]).version
    assert NO_RECOGNIZERS.version == ""
    assert pickle.loads(pickle.dumps(Recognizers.of([WHALE]))) == Recognizers.of([WHALE])  # noqa: S301


def test_a_repr_shows_no_term_and_no_pattern() -> None:
    shown = repr(Recognizers.of([BADGE, WHALE]))
    assert "Whale" not in shown
    assert r"\d" not in shown


def reason(detectors: tuple[Detector, ...]) -> UnscannableReason | None:
    [reading], _ = read_segments([a_segment("anything")], detectors, ("en",))
    return reading.reason


def test_a_set_that_is_not_there_makes_texts_unscannable() -> None:
    sets, wanted = CustomSets(), Recognizers.of([BADGE])
    assert reason(sets.detectors(wanted.version, None)) is UnscannableReason.DETECTOR_FAILED
    assert reason(sets.detectors(wanted.version, wanted)) is None
    assert reason(sets.detectors(wanted.version, None)) is None
    assert sets.detectors("", None) == ()


def test_a_set_that_cannot_be_made_makes_texts_unscannable() -> None:
    broken = Recognizers.of([Recognizer("BADGE", Category.IDENTITY, 0.6, pattern="(?=a)")])
    found = CustomSets().detectors(broken.version, broken)
    assert reason(found) is UnscannableReason.DETECTOR_FAILED
    assert found[0].name == CUSTOM


def test_the_set_used_longest_ago_goes_first() -> None:
    sets = CustomSets()
    many = [
        Recognizers.of([Recognizer(f"BADGE_{n}", Category.IDENTITY, 0.5, terms=("xy",))])
        for n in range(MAX_SETS + 1)
    ]
    for one in many[:MAX_SETS]:
        sets.detectors(one.version, one)
    sets.detectors(many[0].version, None)
    sets.detectors(many[-1].version, many[-1])
    assert reason(sets.detectors(many[0].version, None)) is None
    assert reason(sets.detectors(many[1].version, None)) is UnscannableReason.DETECTOR_FAILED
