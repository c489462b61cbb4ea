"""What leaves holds placeholders where the values were, or it does not leave."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxy.egress.body import build_body, outgoing
from proxy.egress.mask import Masked, mask
from proxy.egress.restore import MARK, AnswerRestorer
from proxy.egress.values import fold
from proxy.types import Category, Finding, JSONObject, Mask, MaskWith
from tests.factories import a_body
from tests.proxy.egress.masking import PEOPLE, back, content, inspect, masked
from tests.proxy.egress.test_body import inspected

TOKEN = r"<[A-Z_]+_[a-z2-9]{6}>"


def done(body: JSONObject, entities: dict[str, str] = PEOPLE) -> Masked:
    result = masked(body, entities)
    assert result is not None
    return result


def shape(text: str) -> str:
    """``text`` with the ids of placeholders blotted out."""
    return re.sub(r"_[a-z2-9]{6}>", ">", text)


def test_replaces_every_place_of_a_value_by_one_placeholder() -> None:
    body = a_body("Jane Doe wrote. Is Jane Doe (jane.doe@mail.example) in?")
    result = done(body)
    text = content(result.body)
    assert shape(text) == "<PERSON> wrote. Is <PERSON> (<EMAIL_ADDRESS>) in?"
    assert len(set(re.findall(TOKEN, text))) == 2
    assert result.counts == (("EMAIL_ADDRESS", 1), ("PERSON", 2))
    assert back(result, text) == content(body)


@pytest.mark.parametrize("kind", ["text/plain", "application/json"])
def test_a_value_in_a_file_keeps_the_request_home(kind: str) -> None:
    letters = base64.b64encode(json.dumps({"by": "Jane Doe"}).encode()).decode()
    part: JSONObject = {"type": "file", "file": {"file_data": f"data:{kind};base64,{letters}"}}
    asked: JSONObject = {"type": "text", "text": "Who is this by?"}
    assert masked(a_body(messages=[{"role": "user", "content": [asked, part]}]), PEOPLE) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Jane Doe, JANE DOE and jane doe", "<PERSON>, <PERSON> and <PERSON>"),
        ("Jane Doe's; Jane came", "<PERSON>'s; <PERSON> came"),
        ("Jane Doe is plain jane", "<PERSON> is plain jane"),
        ("Jane Doe: DOE, Doe's dog", "<PERSON>: <PERSON>, <PERSON>'s dog"),
        ("Jane Doe is user Jane_Doe", "<PERSON> is user <PERSON>"),
        ("Jane Doe: jane.doe, doe-jane2", "<PERSON>: <PERSON>, doe-jane2"),
        ("Jane Doe may not mask_jane", "<PERSON> may not mask_jane"),
        ("Jane Doe (Doeville)", "<PERSON> (Doeville)"),
        ("Ann and Anna, Ann-Marie", "<PERSON> and Anna, <PERSON>-Marie"),
        ("Jane Doe Ann", "<PERSON> <PERSON>"),
        ("<Jane Doe>", "<<PERSON>>"),
        ("Ann", "<PERSON>"),
    ],
)
def test_masks_a_value_as_a_word_of_its_own(text: str, expected: str) -> None:
    result = done(a_body(text))
    assert shape(content(result.body)) == expected
    assert back(result, content(result.body)) == text


def test_places_that_overlap_become_one() -> None:
    names = {"Ann Lee": "PERSON", "Lee Smith": "PERSON", "Smith Ltd": "ORGANIZATION"}
    result = done(a_body("Ann Lee Smith Ltd called."), names)
    assert shape(content(result.body)) in ("<PERSON> called.", "<ORGANIZATION> called.")
    assert back(result, content(result.body)) == "Ann Lee Smith Ltd called."


def test_a_value_is_masked_in_every_message_not_only_where_it_was_found() -> None:
    turns: Any = [
        {"role": "user", "content": "I am JANE DOE."},
        {"role": "assistant", "content": "Hi Jane Doe"},
    ]
    body: JSONObject = {"model": "m", "messages": turns}
    result = done(body, {"Jane Doe": "PERSON"})
    assert shape(content(result.body, 0)) == "I am <PERSON>."
    assert shape(content(result.body, 1)) == "Hi <PERSON>"


def test_a_short_value_is_masked_only_where_it_was_found() -> None:
    result = done(a_body("He is Li. 9 of 9"), {"Li": "PERSON"})
    assert shape(content(result.body)) == "He is <PERSON>. 9 of 9"


def test_a_word_of_the_api_is_masked_where_it_is_a_name() -> None:
    body: JSONObject = {
        "model": "gpt-4o",
        "messages": [
            {"role": "user", "content": "Opus is a person called Opus."},
            {"role": "user", "content": "opus"},
        ],
    }
    result = done(body, {"Opus": "PERSON"})
    assert shape(content(result.body)) == "<PERSON> is a person called <PERSON>."
    assert shape(content(result.body, 1)) == "<PERSON>"
    assert result.body["messages"][0]["role"] == "user"  # type: ignore[index,call-overload]


def test_the_model_asked_for_is_never_masked() -> None:
    body = outgoing(a_body("Ask Ada about it"), "Ada")
    assert done(body, {"Ada": "PERSON"}).body["model"] == "Ada"


def call(arguments: str) -> JSONObject:
    function = {"name": "send", "arguments": arguments}
    calls: Any = [{"id": "call_1", "type": "function", "function": function}]
    return {
        "model": "m",
        "messages": [{"role": "assistant", "content": None, "tool_calls": calls}],
    }


def arguments_of(body: JSONObject) -> str:
    return str(body["messages"][0]["tool_calls"][0]["function"]["arguments"])  # type: ignore[index,call-overload]


@pytest.mark.parametrize(
    "arguments",
    [
        {"to": "Jane Doe", "n": 1},
        {"to": ["Ann", {"deep": "Jane Doe and Ann"}]},
        {"json": json.dumps({"inner": json.dumps({"to": "Jane Doe"})})},
        {"umlaut": "J\u00f6rg", "to": 'say "Jane Doe"\n'},
    ],
    ids=["flat", "deep", "nested", "escapes"],
)
def test_arguments_of_tool_calls_are_masked_as_json(arguments: Any) -> None:
    body = call(json.dumps(arguments))
    result = done(body)
    sent = arguments_of(result.body)
    assert json.loads(sent).keys() == arguments.keys()
    assert "Jane" not in json.dumps(result.body)
    assert json.loads(back(result, sent)) == arguments


def test_values_with_quotes_and_line_ends_come_back_as_valid_json() -> None:
    name = 'Jane "JJ"\nDoe \\ Co'
    arguments = json.dumps({"a": name, "b": json.dumps({"c": name})})
    result = done(call(arguments), {name: "PERSON"})
    assert "JJ" not in json.dumps(result.body)
    assert json.loads(back(result, arguments_of(result.body))) == json.loads(arguments)


STAYS: dict[str, JSONObject] = {
    "a key": a_body("hello", **{"Jane Doe": 1}),
    "a key in arguments": call('{"Jane Doe": 1}'),
    "a number": a_body("hello 4915112345678", x=4915112345678),
    "a number in arguments": call('{"phone": 4915112345678}'),
    "a tool's name": a_body(
        "hello Ann", tools=[{"type": "function", "function": {"name": "Ann", "parameters": {}}}]
    ),
    "an enum": a_body("hello Ann", response_format={"type": "x", "enum": ["Ann"]}),
    "a speaker's name": {
        "model": "m",
        "messages": [{"role": "user", "name": "Ann", "content": "hello"}],
    },
    "a stop sequence": a_body("hello Ann", stop=["Ann"]),
    "an unknown field": a_body("hello", x={"y": "Jane Doe"}),
    "base64": a_body("see SmFuZSBEb2UgaXMgaW4=" + " now"),
    "percent": a_body("see jane%2Edoe%40mail.example now"),
    "split over parts": {
        "model": "m",
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "write to jane.doe@"},
                    {"type": "text", "text": "mail.example today"},
                ],
            }
        ],
    },
}


@pytest.mark.parametrize("body", STAYS.values(), ids=STAYS)
def test_what_cannot_be_replaced_stays(body: JSONObject) -> None:
    found = PEOPLE | {"4915112345678": "PHONE_NUMBER"}
    assert inspect(body, found).findings
    assert masked(body, found) is None


def test_prompts_of_completions_are_masked_and_inputs_of_embeddings_are_not() -> None:
    prompt: JSONObject = {"model": "m", "prompt": ["Dear Jane Doe", "To Ann"], "suffix": "Ann"}
    result = masked(prompt, route="completions")
    assert result is not None
    assert not re.search("Jane|Ann", json.dumps(result.body))
    assert masked({"model": "m", "input": "Jane Doe"}, route="embeddings") is None
    assert masked(prompt) is None  # what is free text is so on its own route only


RESPONSE: JSONObject = {
    "model": "m",
    "instructions": "You write for Jane Doe.",
    "input": [
        {"role": "user", "content": "I am Jane Doe."},
        {"role": "user", "content": [{"type": "input_text", "text": "Ask Jane Doe."}]},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "Not Jane Doe."}]},
        {
            "type": "function_call",
            "call_id": "c",
            "name": "send",
            "arguments": '{"to": "Jane Doe"}',
        },
        {"type": "function_call_output", "call_id": "c", "output": "sent to Jane Doe"},
        {
            "type": "function_call_output",
            "call_id": "c",
            "output": [{"type": "input_text", "text": "Jane Doe"}],
        },
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "About Jane Doe"}]},
    ],
    "tools": [{"type": "function", "name": "send", "description": "Writes to Jane Doe."}],
    "text": {
        "format": {
            "type": "json_schema",
            "name": "x",
            "schema": {"type": "object", "description": "What Jane Doe wants."},
        }
    },
}


def test_every_free_text_of_a_response_is_masked_by_one_placeholder() -> None:
    result = masked(RESPONSE, route="responses")
    assert result is not None
    assert "Jane" not in json.dumps(result.body)
    assert len(set(re.findall(TOKEN, json.dumps(result.body)))) == 1
    restored = AnswerRestorer(result.vault).answer(result.body)
    assert restored == {**RESPONSE, MARK: {"restored_tool_calls": ["c"]}}
    assert masked({"model": "m", "input": "Jane Doe asks."}, route="responses") is not None


@pytest.mark.parametrize(
    "more",
    [
        {"metadata": {"who": "Jane Doe"}},
        {"input": [{"role": "user", "content": "x", "id": "Jane Doe"}]},
        {"input": [{"type": "function_call", "name": "Jane Doe", "arguments": "{}"}]},
        {"tools": [{"type": "function", "name": "Jane Doe"}]},
        {"input": [{"type": "function_call_output", "call_id": "Jane Doe", "output": "x"}]},
    ],
    ids=["metadata", "id", "function", "tool", "call_id"],
)
def test_what_of_a_response_is_no_free_text_keeps_it_home(more: JSONObject) -> None:
    assert masked({**RESPONSE, **more}, route="responses") is None


def test_free_text_of_tools_is_masked() -> None:
    description = {"description": "Writes to Jane Doe."}
    parameters = {"type": "object", "properties": {"x": {"type": "string", **description}}}
    tool = {
        "type": "function",
        "function": {"name": "f", **description, "parameters": parameters},
    }
    assert "Jane" not in json.dumps(done(a_body("hello", tools=[tool])).body)


def test_a_placeholder_typed_by_a_user_is_nobodys() -> None:
    text = "<PERSON_abc234> Jane Doe &lt;PERSON_abc234&gt;"
    result = done(a_body(text))
    sent = content(result.body)
    assert sent.startswith("<PERSON_abc234> <PERSON_")
    assert back(result, sent) == text


def test_what_was_not_masked_is_not_made_up_for_by_what_stands_twice() -> None:
    body = a_body("Jane Doe met Kim Roe. Jane, DOE and Doe's dog left.")
    inspection = inspect(body, {"Jane Doe": "PERSON", "Kim Roe": "PERSON"})
    jane, kim = inspection.findings
    result = mask(body, inspection, [Mask(jane)], "chat.completions")
    assert result is not None
    assert "Kim Roe" in content(result.body)
    assert result.counts == (("PERSON", 1),)  # of the two that the decision counts

    both = mask(body, inspection, [Mask(jane), Mask(kim)], "chat.completions")
    assert both is not None
    assert both.counts == (("PERSON", 2),)


def test_a_value_that_goes_one_way_never_comes_back() -> None:
    text = "Ann pays. ANN, Jane Doe and ann."
    result = masked(a_body(text), {"Ann": "PERSON", "Jane Doe": "LOCATION"}, ("PERSON",))
    assert result is not None
    sent = content(result.body)
    assert shape(sent) == "<PERSON> pays. <PERSON>, <LOCATION> and <PERSON>."
    assert shape(back(result, sent)) == "<PERSON> pays. <PERSON>, Jane Doe and <PERSON>."


def test_of_two_findings_that_overlap_one_way_takes_both() -> None:
    result = masked(a_body("Jane Doe"), {"Jane Doe": "LOCATION", "Doe": "PERSON"}, ("PERSON",))
    assert result is not None
    assert back(result, content(result.body)) == content(result.body)


def test_a_redacted_value_does_not_even_tell_its_kind() -> None:
    body = a_body("Jane Doe and Ann")
    result = masked(body, PEOPLE, by=MaskWith.REDACT)
    assert result is not None
    assert content(result.body) == "[REDACTED] and [REDACTED]"
    assert back(result, content(result.body)) == content(result.body)
    assert result.counts == (("PERSON", 2),)
    assert not result.without_placeholders(inspect(result.body, {"REDACTED": "PERSON"})).findings


def test_two_decisions_share_no_placeholder() -> None:
    tokens = {content(done(a_body("Jane Doe")).body) for _ in range(20)}
    assert len(tokens) == 20


def test_nothing_that_is_printed_shows_a_value() -> None:
    result = done(a_body("Jane Doe"))
    shown = repr(result) + repr(result.vault) + "".join(map(repr, result.vault))
    assert "Jane" not in shown


def test_only_what_a_placeholder_covers_is_left_out_of_the_second_inspection() -> None:
    result = done(a_body("Jane Doe met him"), {"Jane Doe": "PERSON"})
    token = content(result.body).split(" met")[0]
    seen = {token: "PERSON", f"{token} met": "PERSON", "him": "PERSON"}
    again = inspect(result.body, seen)
    assert len(again.findings) == 3
    rest = result.without_placeholders(again)
    text = content(result.body)
    assert {text[f.start : f.end] for f in rest.findings} == {f"{token} met", "him"}


def test_thousands_of_values_are_masked() -> None:
    text = " ".join(f"Person{number}x" for number in range(3000))
    body = a_body(f"{text} {text}")
    found = inspected(body)
    (index,) = [s.index for s in found.segments if s.text == content(body)]
    findings = tuple(
        Finding("PERSON", Category.IDENTITY, index, *match.span(), 0.9, "test")
        for match in re.finditer(r"\w+", text)
    )
    result = mask(
        body, replace(found, findings=findings), list(map(Mask, findings)), "chat.completions"
    )
    assert result is not None
    assert result.counts == (("PERSON", 3000),)
    assert "Person" not in content(result.body)
    assert back(result, content(result.body)) == content(body)


VALUES = {
    "Jane Doe": "PERSON",
    "Ann": "PERSON",
    "Anna": "PERSON",
    "O'Neil (Jr.)": "PERSON",
    "jane+x@mail.example": "EMAIL_ADDRESS",
    "+49 151 2345678": "PHONE_NUMBER",
    "M\u00fcller": "PERSON",
    "\u05d3\u05d5\u05d3 \u05db\u05d4\u05df": "PERSON",
    "\U0001d4d0\U0001d4d1\U0001d4d2": "PERSON",
    "\u5f20\u4f1f\u660e": "PERSON",
    "stop": "PERSON",
    ".*[a-z]+$": "PASSWORD",
    'q"uo\\te\n9': "PASSWORD",
    "\u0130stanbul": "LOCATION",
}
SIGNS = (" ", ", ", "<", ">", "\\", "\\u003c", "&lt;", "%3C", "'s ", "\n", "**", "_", '"', "{", "}")
WORDS = (
    " <PERSON_ab2345> ",
    "PERSON_",
    "\u200f",
    "\u0301 ",
    "e\u0301 ",
    "\U0001f600",
    "annual ",
    "42 ",
)
GLUE = st.sampled_from((*SIGNS, *WORDS))
TEXTS = st.lists(GLUE | st.sampled_from(sorted(VALUES)) | st.text(max_size=3), max_size=8).map(
    "".join
)
NESTED = st.recursive(
    TEXTS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "b", "c d"]), inner, max_size=3)
        | inner.map(lambda value: json.dumps({"k": value}))
    ),
    max_leaves=6,
)


#: Within the arguments of a call, JSON in JSON in JSON in JSON.
TOO_DEEP = json.dumps({"k": json.dumps({"k": json.dumps({"k": 'q"uo\\te\n9'})})})


def no_surrogates(text: str) -> bool:
    return not any("\ud800" <= char <= "\udfff" for char in text)


@settings(max_examples=90, deadline=None)
@example("", 'q"uo\\te\n9', TOO_DEEP, MaskWith.PLACEHOLDER, "chat.completions")
@example("", "", "0\x1f+49 151 2345678", MaskWith.PSEUDONYM, "chat.completions")
@given(
    TEXTS.filter(no_surrogates),
    TEXTS.filter(no_surrogates),
    NESTED,
    st.sampled_from([MaskWith.PLACEHOLDER, MaskWith.PSEUDONYM]),
    st.sampled_from(["chat.completions", "responses"]),
)
def test_masked_then_restored_is_what_it_was(
    first: str, second: str, nested: Any, by: MaskWith, route: str
) -> None:
    arguments = json.dumps({"args": nested})
    said: list[dict[str, Any]] = [
        {"role": "user", "content": first},
        {"role": "user", "content": [{"type": "text", "text": second}]},
    ]
    body: JSONObject = {
        "model": "gpt-4o",
        "messages": [*said, call(arguments)["messages"][0]],  # type: ignore[index]
    }
    if route == "responses":
        called = {"type": "function_call", "call_id": "c", "name": "f", "arguments": arguments}
        body = {"model": "gpt-4o", "instructions": first, "input": [*said, called]}
    result = masked(body, VALUES, by=by, route=route)
    if result is None:
        return
    again = inspect(result.body, VALUES)
    # What is nested deeper than anybody reads is left as it is, and keeps the request at home.
    assert again.unscannable or not _originals(result)
    rest = result.without_placeholders(again)
    known = {fold(entry.value) for entry in result.vault}
    for finding in rest.findings:  # only what masking laid bare: a value glued to another one
        text = again.segments[finding.segment].text or ""
        if text[:1] not in ("{", "["):  # escapes of JSON part what is one word in its strings
            assert fold(text[finding.start : finding.end]) not in known
    assert again.unscannable or build_body(result.body, "gpt-4o", again)
    messages: Any = result.body.get("messages", result.body.get("input"))
    sent = _texts_named("arguments", messages[2])
    for text, was in ((messages[0]["content"], first), (messages[1]["content"][0]["text"], second)):
        restored = back(result, text)
        assert restored == was or unwrapped(restored) == unwrapped(was)
    assert unwrapped(back(result, sent)) == unwrapped(json.dumps({"args": nested}))


def _texts_named(name: str, value: Any) -> str:
    """The one text of a member ``name`` somewhere within a value."""
    if isinstance(value, dict) and name in value:
        return str(value[name])
    members = value.values() if isinstance(value, dict) else value
    found = [_texts_named(name, one) for one in members if isinstance(one, dict | list)]
    return "".join(found)


def unwrapped(value: Any) -> Any:
    """A value with the JSON in its strings read: how that was written does not matter."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return unwrapped(json.loads(value))
        except ValueError:
            return value
    if isinstance(value, dict):
        return {key: unwrapped(member) for key, member in value.items()}
    return [unwrapped(item) for item in value] if isinstance(value, list) else value


def _originals(result: Masked) -> list[str]:
    """The values that can still be read in the texts of a masked body, as words of their own."""
    texts = "\n".join(_leaves(unwrapped(result.body)))
    return [
        entry.value
        for entry in result.vault
        if sum(map(str.isalnum, entry.value)) >= 5
        and re.search(rf"(?<!\w){re.escape(fold(entry.value))}(?!\w)", fold(texts))
    ]


def _leaves(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for member in value.values() for text in _leaves(member)]
    if isinstance(value, list):
        return [text for item in value for text in _leaves(item)]
    return []
