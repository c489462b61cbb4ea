"""A lone question about the world may leave in a language nobody reads; nothing else may."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.inspection.language import foreign_language
from proxy.inspection.publicfigures import mark_public_figures
from proxy.inspection.publicquestions import clear_public_questions
from proxy.inspection.questionforms import is_public_question
from proxy.types import Category, Finding, Origin, Role, Segment, Unscannable, UnscannableReason

QUESTIONS = {
    "de": "Wann wurde der Erfinder des Buchdrucks geboren?",
    "es": "¿En qué ciudad pintó Goya sus últimos cuadros?",
    "fr": "Quel écrivain a créé le comte de Monte-Cristo ?",
    "it": "Chi ha scritto la Divina Commedia?",
    "pt": "Quem descobriu o caminho marítimo para a Índia?",
    "nl": "Welke schilder sneed een oor af?",
    "zh": "李白是哪个朝代的诗人？",
    "ja": "源氏物語の作者は誰ですか？",
    "ru": "Кто написал «Войну и мир»?",
}
PRIVATE = {
    "de": "Wann wurde unsere Kundin Lena Hoffmann geboren?",
    "es": "¿En qué ciudad vive el paciente Juan Pérez?",
    "fr": "Quel salarié a reçu la facture de Jean Dupont ?",
    "it": "Chi ha licenziato Mario Rossi?",
    "pt": "Quem demitiu o João Silva?",
    "nl": "Welke klant heet Jan de Vries?",
    "zh": "王小明住在哪里？",
    "ja": "田中さんの電話番号は何番ですか？",
    "ru": "Кто уволил Ивана Петрова?",
}
STATEMENTS = {
    "de": "Lena Hoffmann hat den Roman geschrieben.",
    "es": "El cuadro lo pintó Juan Pérez.",
    "fr": "Jean Dupont a écrit ce roman.",
    "it": "Mario Rossi ha scritto il romanzo.",
    "pt": "João Silva escreveu o romance.",
    "nl": "Jan de Vries schreef de roman.",
    "zh": "王小明写了这首诗。",
    "ja": "田中花子がこの詩を書きました。",
    "ru": "Иван Петров написал роман.",
}


def a_segment(text: str, index: int = 0, **given: object) -> Segment:
    place = {"role": Role.USER, "origin": Origin.VALUE, **given}
    return Segment(index, f"messages[{index}].content", text=text, **place)  # type: ignore[arg-type]


def cleared(
    *segments: Segment, language: str = "de", findings: tuple[Finding, ...] = ()
) -> tuple[tuple[Finding, ...], list[Unscannable]]:
    unread = [Unscannable(segment.index, UnscannableReason.LANGUAGE) for segment in segments[:1]]
    return clear_public_questions(segments, findings, unread, {0: language})


@pytest.mark.parametrize("language", QUESTIONS)
def test_a_question_about_the_world_is_cleared_and_told_as_an_unlikely_person(
    language: str,
) -> None:
    text = QUESTIONS[language]
    findings, unscannable = cleared(a_segment(text), language=language)
    assert unscannable == []
    (stand_in,) = findings
    assert (stand_in.entity, stand_in.category) == ("UNLIKELY_PERSON", Category.OTHER)
    assert (stand_in.start, stand_in.end, stand_in.score) == (0, len(text), 1.0)


@pytest.mark.parametrize("language", PRIVATE)
def test_a_private_question_or_a_statement_is_not(language: str) -> None:
    for text in (PRIVATE[language], STATEMENTS[language]):
        assert cleared(a_segment(text), language=language)[1], text


@pytest.mark.parametrize("language", QUESTIONS)
def test_more_than_the_question_is_not(language: str) -> None:
    """Not a second sentence on either side, and not a long one."""
    question, more = QUESTIONS[language], STATEMENTS[language]
    for text in (f"{more} {question}", f"{question} {more}", f"{question}\n{more}"):
        assert not is_public_question(text, language), text
    assert not is_public_question(question.replace(" ", " " * 200) + "?" * 250, language)


@pytest.mark.parametrize(
    "sign", ["\u200b", "\u00ad", "\u202e", "\u0430", "\U0001d41a", "\x00", "@"]
)
def test_a_disguised_word_is_not_looked_past(sign: str) -> None:
    assert is_public_question("Wann kam der Roman von Lena heraus?", "de")
    assert not is_public_question(f"Wann kam me{sign}in Roman von Lena heraus?", "de")


def judged(text: str, language: str, *others: Segment) -> str:
    """What becomes of a model's name in a text whose language is read."""
    name = Finding("PERSON", Category.IDENTITY, 0, 5, 12, 0.85, "presidio")
    told = {0: language, **{other.index: language for other in others}}
    return mark_public_figures([a_segment(text), *others], [name], told)[0].entity


@pytest.mark.parametrize("language", QUESTIONS)
def test_a_name_that_is_read_in_another_language_counts_as_strictly(language: str) -> None:
    """A language with a model must not be judged by the signs of English ones."""
    assert judged(QUESTIONS[language], language) == "UNLIKELY_PERSON"
    for text in (PRIVATE[language], STATEMENTS[language]):
        assert judged(text, language) == "PERSON", text
    matter = a_segment(PRIVATE[language], 1)
    assert judged(QUESTIONS[language], language, matter) == "PERSON"


def test_a_listed_figure_is_one_in_every_language_but_in_no_private_matter() -> None:
    def entity(text: str, name: str) -> str:
        at = text.index(name)
        finding = Finding("PERSON", Category.IDENTITY, 0, at, at + len(name), 0.85, "presidio")
        return mark_public_figures([a_segment(text)], [finding], {0: "fr"})[0].entity

    assert entity("Un résumé de Marie Curie pour le lycée.", "Marie Curie") == "PUBLIC_FIGURE"
    assert entity("Le salaire de Marie Curie au lycée.", "Marie Curie") == "PERSON"


def test_another_language_in_cyrillic_letters_is_not_taken_for_russian() -> None:
    """Its private matters have other words."""
    for text in ("Кого звільнив Іван Петренко?", "Как се казва наемателят Иван Петров?"):
        told = foreign_language(text, ("en",)) or ""
        assert is_public_question(text, "ru")
        assert cleared(a_segment(text), language=told)[1], text


def test_an_unknown_language_is_never_cleared() -> None:
    for language in ("", "sv", "und", "en"):
        assert not is_public_question(QUESTIONS["de"], language)


def test_another_identifier_in_the_request_keeps_it() -> None:
    phone = Finding("PHONE_NUMBER", Category.CONTACT, 1, 0, 4, 0.7, "identifiers")
    assert cleared(a_segment(QUESTIONS["de"]), findings=(phone,))[1]


def test_a_private_matter_elsewhere_in_the_request_keeps_it() -> None:
    system = a_segment("You answer questions about our customer.", 1, role=Role.SYSTEM)
    assert cleared(a_segment(QUESTIONS["de"]), system)[1]
    harmless = a_segment("You answer briefly.", 1, role=Role.SYSTEM)
    assert not cleared(a_segment(QUESTIONS["de"]), harmless)[1]


@pytest.mark.parametrize("origin", [Origin.FILE, Origin.EMBEDDED, Origin.KEY, Origin.JOINED])
def test_only_a_plain_value_is_cleared(origin: Origin) -> None:
    assert cleared(a_segment(QUESTIONS["de"], origin=origin))[1]


def test_other_reasons_and_other_segments_stay() -> None:
    late = Unscannable(0, UnscannableReason.DETECTOR_TIMEOUT)
    other = Unscannable(1, UnscannableReason.LANGUAGE)
    unread = [Unscannable(0, UnscannableReason.LANGUAGE), late, other]
    segments = (a_segment(QUESTIONS["de"]), a_segment(STATEMENTS["de"], 1))
    _, left = clear_public_questions(segments, (), unread, {0: "de", 1: "de"})
    assert left == [late, other]


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40), st.sampled_from(sorted(PRIVATE)))
def test_nothing_put_around_a_private_question_clears_it(text: str, language: str) -> None:
    for whole in (text + PRIVATE[language], PRIVATE[language] + text):
        assert not is_public_question(whole, language)
