"""Languages: a clear sign of another one is seen, a short or odd text is no sign."""

from __future__ import annotations

import pytest

from proxy.inspection.language import foreign_language

FOREIGN = {
    "fr": "Je m'appelle Margaux et j'habite avec ma famille dans une petite ville.",
    "es": "Mi hermana vive en una casa muy grande con sus hijos y su perro.",
    "de": "Meine Schwester wohnt mit ihren Kindern in einem sehr kleinen Haus.",
    "ru": "\u041c\u043e\u044f \u0441\u0435\u0441\u0442\u0440\u0430 \u0436\u0438\u0432\u0451\u0442",
    "uk": "Кого звільнив Іван Петренко?",
    "bg": "Как се казва наемателят Иван Петров?",
    "und": "Кога е роден Љубомир Петровски?",
    "ja": "\u79c1\u306e\u540d\u524d\u306f\u592a\u90ce\u3067\u3059",
    "zh": "\u6211\u4f4f\u5728\u5317\u4eac",
    "ar": "\u0623\u062e\u062a\u064a \u062a\u0639\u064a\u0634 \u0647\u0646\u0627",
    "el": "\u0397 \u03b1\u03b4\u03b5\u03bb\u03c6\u03ae \u03bc\u03bf\u03c5",
}


@pytest.mark.parametrize(("code", "text"), FOREIGN.items(), ids=FOREIGN.keys())
def test_tells_another_language(code: str, text: str) -> None:
    assert foreign_language(text, ("en",)) == code


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ok",
        "Name the longest river in Europe.",
        "def area(radius):\n    return pi * radius ** 2",
        "SELECT name FROM users WHERE id = 5",
        "What does the word \u041c\u0438\u0440 mean in English?",
        "Send the r\u00e9sum\u00e9 to Zo\u00eb at the caf\u00e9.",
        "kubectl get pods -n default -o json",
        "\u4e00",
        "\U0001f600 \U0001f389",
        "\uff28\uff45\uff4c\uff4c\uff4f \uff54\uff48\uff45\uff52\uff45",
    ],
)
def test_sees_no_other_language_without_a_clear_sign(text: str) -> None:
    assert foreign_language(text, ("en",)) is None


def test_sees_a_second_language_at_the_end_of_a_long_text() -> None:
    text = "The report is long and it is in English. " * 300 + FOREIGN["ru"] * 300
    assert foreign_language(text, ("en",)) == "ru"
