"""Values come back where their placeholders stand, however the answer writes and cuts them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.egress.placeholders import Vault
from proxy.egress.restore import MARK, AnswerRestorer, Restorer, restored_in_chunks
from proxy.types import JSONObject

NAME = 'Jane "JJ" Doe'


@pytest.fixture(scope="module")
def vault() -> Vault:
    return a_vault()


def a_vault() -> Vault:
    vault = Vault("")
    vault.token_for("PERSON", NAME)
    vault.token_for("EMAIL_ADDRESS", "jane&co@mail.example")
    return vault


def core(vault: Vault, entity: str = "PERSON") -> str:
    """A placeholder without its brackets."""
    return next(entry.token for entry in vault if entry.entity == entity)[1:-1]


def back(vault: Vault, text: str) -> str:
    return restored_in_chunks(vault, [text])


FORMS = {
    "plain": ("<{}>", NAME),
    "with an ending": ("<{}>s and <{}>'s", f"{NAME}s and {NAME}'s"),
    "in bold": ("**<{}>**", f"**{NAME}**"),
    "in code": ("`<{}>`", f"`{NAME}`"),
    "bare": ("{}.", f"{NAME}."),
    "with blanks": ("< {} >", NAME),
    "in other brackets": ("[{}]", f"[{NAME}]"),
    "without its end": ("<{} said", f"{NAME} said"),
    "html": ("&lt;{}&gt;", NAME),
    "html twice": ("&amp;lt;{}&amp;gt;", NAME),
    "html by number": ("&#60;{}&#x3e;", NAME),
    "json escapes": ("\\u003c{}\\u003e", 'Jane \\"JJ\\" Doe'),
    "url": ("?q=%3C{}%3E", "?q=Jane%20%22JJ%22%20Doe"),
    "url twice": ("%253C{}%253E", "Jane%2520%2522JJ%2522%2520Doe"),
    "markdown escapes": ("\\<{}\\>", NAME),
    "a path": ("C:\\<{}>\\x", f"C:\\{NAME}\\x"),
    "twice in a row": ("<{}><{}>", NAME + NAME),
    "brackets of its own": ("<<{}>>", f"<{NAME}>"),
}


@pytest.mark.parametrize(("form", "expected"), FORMS.values(), ids=FORMS)
def test_restores_the_forms_in_which_answers_write(form: str, expected: str, vault: Vault) -> None:
    written = form.replace("{}", core(vault))
    assert back(vault, written) == expected
    assert back(vault, written.replace("_", "\\_")) == expected.replace("_", "\\_")


@pytest.mark.parametrize("change", [str.lower, str.upper, str.title, str.swapcase])
def test_case_does_not_matter(change: Any, vault: Vault) -> None:
    assert back(vault, change(f"<{core(vault)}>")) == NAME


def test_an_entity_of_two_words_comes_back_with_other_joints(vault: Vault) -> None:
    written = core(vault, "EMAIL_ADDRESS")
    for joint in ("_", "-", " ", "\\_"):
        assert back(vault, f"<{written.replace('_', joint)}>") == "jane&co@mail.example"
    assert back(vault, f"&lt;{written}&gt;") == "jane&amp;co@mail.example"


@pytest.mark.parametrize(
    "write",
    [
        lambda c: f"<{c[:-1]}>",
        lambda c: f"{c}q",
        lambda c: c[::-1],
        lambda c: " ".join(c),
        lambda c: f"<EMAIL_ADDRESS_{c[-6:]}>",
        lambda c: c[-6:],
        lambda c: f"<PERSON_{c[-6:-1]}{'z' if c[-1] != 'z' else 'y'}>",
        lambda c: "<PERSON_abcdef>",
        lambda c: "<PERSON>",
    ],
    ids=["cut", "longer", "reversed", "spelled", "other kind", "id", "one off", "invented", "none"],
)
def test_what_is_not_this_requests_placeholder_is_left_alone(write: Any, vault: Vault) -> None:
    written = write(core(vault))
    assert back(vault, f"see {written} there") == f"see {written} there"


def test_another_requests_placeholder_is_left_alone_and_counted(vault: Vault) -> None:
    restorer = Restorer(vault)
    other = f"<{core(a_vault())}>"
    assert restorer.feed(f"{other} and <{core(vault)}>.") + restorer.end() == f"{other} and {NAME}."
    assert (restorer.num_restored, restorer.num_unknown) == (1, 1)


@pytest.mark.parametrize("depth", range(5))
def test_a_value_is_escaped_for_every_string_it_stands_in(depth: int, vault: Vault) -> None:
    text = f"hello <{core(vault)}>"
    expected = f"hello {NAME}"
    for _ in range(depth):
        text, expected = json.dumps({"k": [text]}), json.dumps({"k": [expected]})
    assert back(vault, text) == expected


def test_a_value_is_not_escaped_in_prose_that_looks_like_json_at_first(vault: Vault) -> None:
    assert back(vault, f'[1] "<{core(vault)}>" said so') == f'[1] "{NAME}" said so'


VAULT = a_vault()
CORE = core(VAULT)
OWN = (f"<{CORE}>", f"<{core(VAULT, 'EMAIL_ADDRESS')}>", CORE, CORE[:-2], f"&lt;{CORE}&gt;")
ESCAPED = (f"\\u003c{CORE}\\u003e", f"%3C{CORE}%3E", "<PERSON_abc234>", "PER")
SIGNS = ("<", ">", " >", "\\", '"', "{", "[", ":", " ", "\n", "a", "\u0130")
PIECES = st.sampled_from((*OWN, *ESCAPED, *SIGNS))
TEXTS = st.lists(PIECES | st.text(max_size=3), max_size=8).map("".join)


@settings(max_examples=400, deadline=None)
@given(TEXTS | TEXTS.map(lambda text: json.dumps({"k": text})), st.data())
def test_how_a_stream_is_cut_changes_nothing(text: str, data: st.DataObject) -> None:
    whole = back(VAULT, text)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    chunks = [text[i:j] for i, j in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert restored_in_chunks(VAULT, chunks) == whole
    assert restored_in_chunks(VAULT, text) == whole  # one character at a time


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_placeholder_cut_at_any_place_is_restored(form: tuple[str, str], vault: Vault) -> None:
    text = f"so {form[0].replace('{}', core(vault))} it is"
    for cut in range(len(text) + 1):
        assert restored_in_chunks(vault, [text[:cut], text[cut:]]) == f"so {form[1]} it is"


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="ab <>&%\\PERSONperson_234", max_size=300))
def test_nothing_longer_than_a_placeholder_waits(text: str) -> None:
    restorer = Restorer(VAULT)
    shown = 0
    for position, char in enumerate(text):
        shown += len(restorer.feed(char))
        assert position + 1 - shown <= 80


def test_plain_prose_never_waits(vault: Vault) -> None:
    restorer = Restorer(vault)
    assert restorer.feed("The Danube is 2,850 km long.\n") == "The Danube is 2,850 km long.\n"


def an_answer(**message: Any) -> JSONObject:
    choice: Any = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": "stop"}
    return {"object": "chat.completion", "choices": [choice]}


def test_every_text_of_an_answer_is_restored(vault: Vault) -> None:
    token = f"<{core(vault)}>"
    calls: Any = [
        {
            "id": "c",
            "type": "function",
            "function": {"name": "f", "arguments": json.dumps({"to": token})},
        }
    ]
    answer = an_answer(content=token, refusal=token, tool_calls=calls)
    restorer = AnswerRestorer(vault)
    choice: Any = restorer.answer(answer)["choices"][0]  # type: ignore[index]
    assert choice["message"]["content"] == choice["message"]["refusal"] == NAME
    arguments = choice["message"]["tool_calls"][0]["function"]["arguments"]
    assert json.loads(arguments) == {"to": NAME}
    assert (restorer.num_restored, restorer.num_unknown) == (3, 0)


def test_log_probabilities_go_where_something_was_restored(vault: Vault) -> None:
    scores = {"content": [{"token": "<", "logprob": -0.1, "top_logprobs": []}]}
    choices: Any = [
        {"index": 0, "message": {"content": f"<{core(vault)}>"}, "logprobs": scores},
        {"index": 1, "message": {"content": "nothing"}, "logprobs": scores},
    ]
    restored: Any = AnswerRestorer(vault).answer({"choices": choices})["choices"]
    assert [choice["logprobs"] for choice in restored] == [None, scores]


def test_an_answer_to_a_request_without_values_is_as_it_was() -> None:
    answer = an_answer(content="<PERSON_abc234>")
    assert AnswerRestorer(Vault("")).answer(answer) == answer


def test_tool_calls_that_get_values_back_are_named_and_no_others() -> None:
    vault = Vault("")
    token = vault.token_for("PERSON", "Jane Doe")
    calls = [
        {"id": "a", "type": "function", "function": {"name": "send", "arguments": f'["{token}"]'}},
        {"id": "b", "type": "function", "function": {"name": "look", "arguments": "{}"}},
        {"id": "c", "type": "custom", "custom": {"name": "say", "input": f"to {token}"}},
    ]
    old = {"name": "send_old", "arguments": token}
    message = {"content": f"I write to {token}.", "tool_calls": calls, "function_call": old}
    restorer = AnswerRestorer(vault)
    given: Any = {"id": "x", "choices": [{"message": message}]}
    answer: Any = restorer.answer(given)
    assert answer[MARK] == {"restored_tool_calls": ["a", "c", "send_old"]}
    item = {"type": "function_call", "id": "fc", "call_id": "d", "name": "f", "arguments": token}
    response: Any = AnswerRestorer(vault).answer({"output": [item]})
    assert response[MARK] == {"restored_tool_calls": ["d"]}


def test_an_answer_cannot_mark_itself() -> None:
    vault = Vault("")
    vault.token_for("PERSON", "Jane Doe")
    assert AnswerRestorer(vault).answer({MARK: {"restored_tool_calls": ["a"]}, "id": "x"}) == {
        "id": "x"
    }
