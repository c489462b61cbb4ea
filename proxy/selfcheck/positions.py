"""Where in a request a value can stand: one entry for each place and form, in every route it has.

A position puts a plant into the harmless body of a route, and says which strings show it there.
"""

from __future__ import annotations

import json
from typing import Final

from proxy.policy.disguises import FORMS
from proxy.selfcheck import blobs
from proxy.selfcheck.canaries import ANY, BARE, CARDS, SPLITTABLE
from proxy.selfcheck.puts import (
    CHAT,
    COMPLETIONS,
    EDITS,
    EMBEDDINGS,
    FORM_ROUTES,
    HEADERS,
    IMAGES,
    MAIN,
    MODERATIONS,
    QUERY,
    RESPONSES,
    SPEECH,
    TEXT_ROUTES,
    TRANSCRIPTIONS,
    TRANSLATIONS,
    VARIATIONS,
    Position,
    among,
    before,
    call,
    codes,
    compact,
    drawn,
    every,
    file_part,
    form_file,
    image,
    in_form,
    item,
    letters,
    main,
    more,
    noted,
    only,
    output,
    part,
    recording,
    response_format,
    result,
    said,
    schema,
    tool,
)

_TEXTS: Final = (
    Position("main text", ANY, main(lambda p: p.sentence)),
    Position(
        "one of many texts",
        ANY,
        {route: among(route) for route in (COMPLETIONS, EMBEDDINGS, MODERATIONS)},
    ),
    Position("system", ANY, every(said("system"), CHAT, RESPONSES)),
    Position("developer", ANY, every(said("developer"), CHAT, RESPONSES)),
    Position("earlier question", ANY, every(said("user"), CHAT, RESPONSES)),
    Position("earlier answer", ANY, every(said("assistant"), CHAT, RESPONSES)),
    Position("instructions", ANY, {RESPONSES: more(lambda p: {"instructions": p.sentence})}),
    Position(
        "content part",
        ANY,
        {
            CHAT: part(lambda p: {"type": "text", "text": p.sentence}),
            RESPONSES: part(lambda p: {"type": "input_text", "text": p.sentence}),
        },
    ),
    Position(
        "refusal",
        ANY,
        {CHAT: before(lambda p: [{"role": "assistant", "content": "No.", "refusal": p.sentence}])},
    ),
    Position(
        "reasoning",
        ANY,
        {
            RESPONSES: before(
                lambda p: [
                    {
                        "type": "reasoning",
                        "summary": [{"type": "summary_text", "text": p.sentence}],
                    }
                ]
            ),
            CHAT: before(
                lambda p: [
                    {"role": "assistant", "content": "Yes.", "reasoning_content": p.sentence}
                ]
            ),
        },
    ),
    Position(
        "name",
        BARE,
        {CHAT: before(lambda p: [{"role": "user", "name": p.bare, "content": "Hello."}])},
    ),
)

_TOOLS: Final = (
    Position(
        "tool name",
        CARDS,
        tool(lambda p: {"name": f"look_up_{p.bare}"}),
    ),
    Position("tool description", ANY, tool(lambda p: {"description": p.sentence})),
    Position(
        "tool schema",
        BARE,
        tool(lambda p: {"parameters": schema({"q": {"type": "string", "enum": [p.bare]}})}),
    ),
    Position(
        "key of a tool schema",
        BARE,
        tool(lambda p: {"parameters": schema({p.bare: {"type": "string"}})}),
    ),
    Position(
        "tool arguments",
        BARE,
        {
            CHAT: before(lambda p: [call(compact(p)), result("Done.")]),
            RESPONSES: before(lambda p: [item(compact(p)), output("Done.")]),
        },
    ),
    Position(
        "JSON in tool arguments",
        BARE,
        {
            CHAT: before(lambda p: [call(json.dumps({"q": compact(p)})), result("Done.")]),
            RESPONSES: before(lambda p: [item(json.dumps({"q": compact(p)})), output("Done.")]),
        },
    ),
    Position(
        "key of tool arguments",
        BARE,
        {
            CHAT: before(lambda p: [call(json.dumps({p.bare: 1})), result("Done.")]),
            RESPONSES: before(lambda p: [item(json.dumps({p.bare: 1})), output("Done.")]),
        },
    ),
    Position(
        "function call",
        BARE,
        {
            CHAT: before(
                lambda p: [
                    {
                        "role": "assistant",
                        "content": None,
                        "function_call": {"name": "look_up", "arguments": compact(p)},
                    }
                ]
            )
        },
    ),
    Position(
        "tool result",
        ANY,
        {
            CHAT: before(lambda p: [call("{}"), result(p.sentence)]),
            RESPONSES: before(lambda p: [item("{}"), output(p.sentence)]),
        },
    ),
    Position(
        "JSON tool result",
        BARE,
        {
            CHAT: before(lambda p: [call("{}"), result(compact(p))]),
            RESPONSES: before(lambda p: [item("{}"), output(compact(p))]),
        },
    ),
)

_FILES: Final = (
    Position("picture of text", CARDS, image(drawn), lambda p: (letters(drawn(p)),)),
    Position(
        "note in a picture",
        ANY,
        {**image(noted), **in_form(lambda p: form_file(noted(p)), EDITS, VARIATIONS)},
        lambda p: (letters(noted(p)),),
    ),
    Position("mask", ANY, {EDITS: more(lambda p: {"mask": form_file(noted(p))})}),
    Position("picture elsewhere", BARE, image(lambda p: f"https://example.com/a.png?of={p.bare}")),
    Position(
        "text file",
        ANY,
        file_part(lambda p: blobs.text_file(p.sentence)),
        lambda p: (letters(blobs.text_file(p.sentence)),),
    ),
    Position(
        "document",
        ANY,
        file_part(lambda p: blobs.document(p.sentence), "notes.docx"),
        lambda p: (letters(blobs.document(p.sentence)),),
    ),
    Position(
        "file name",
        BARE,
        {
            CHAT: part(
                lambda p: {
                    "type": "file",
                    "file": {"filename": f"{p.bare}.txt", "file_data": blobs.text_file("Hello.")},
                }
            ),
            RESPONSES: part(
                lambda p: {
                    "type": "input_file",
                    "filename": f"{p.bare}.txt",
                    "file_data": blobs.text_file("Hello."),
                }
            ),
            **in_form(lambda p: form_file(blobs.picture("7"), f"{p.bare}.png"), EDITS, VARIATIONS),
            **in_form(
                lambda p: form_file(recording("Hello."), f"{p.bare}.wav"),
                TRANSCRIPTIONS,
                TRANSLATIONS,
            ),
        },
    ),
    Position(
        "sound",
        ANY,
        {
            CHAT: part(
                lambda p: {
                    "type": "input_audio",
                    "input_audio": {"data": blobs.sound(p.sentence), "format": "wav"},
                }
            ),
            **in_form(lambda p: form_file(recording(p.sentence)), TRANSCRIPTIONS, TRANSLATIONS),
        },
        lambda p: (blobs.sound(p.sentence),),
    ),
)

_EVERYWHERE: Final = (CHAT, COMPLETIONS, RESPONSES, EMBEDDINGS, MODERATIONS)

_FIELDS: Final = (
    Position(
        "metadata", ANY, every(more(lambda p: {"metadata": {"note": p.sentence}}), CHAT, RESPONSES)
    ),
    Position(
        "key of metadata",
        BARE,
        every(more(lambda p: {"metadata": {p.bare: "1"}}), CHAT, RESPONSES),
    ),
    Position("user", BARE, every(more(lambda p: {"user": p.bare}), *TEXT_ROUTES)),
    Position(
        "cache key",
        BARE,
        every(more(lambda p: {"prompt_cache_key": p.bare}), CHAT, RESPONSES),
    ),
    Position("stop", BARE, every(more(lambda p: {"stop": [p.bare]}), CHAT, COMPLETIONS)),
    Position("suffix", ANY, {COMPLETIONS: more(lambda p: {"suffix": p.sentence})}),
    Position(
        "prediction",
        ANY,
        {CHAT: more(lambda p: {"prediction": {"type": "content", "content": p.sentence}})},
    ),
    Position(
        "key of logit bias",
        BARE,
        every(more(lambda p: {"logit_bias": {p.bare: 1}}), CHAT, COMPLETIONS),
    ),
    Position("response format", ANY, response_format(lambda p: {"description": p.sentence})),
    Position(
        "schema of a response format",
        BARE,
        response_format(lambda p: {"schema": schema({"q": {"const": p.bare}})}),
    ),
    Position(
        "unknown field",
        ANY,
        every(more(lambda p: {"x_note": p.sentence}), *_EVERYWHERE, *FORM_ROUTES),
    ),
    Position("name of a form's field", BARE, every(more(lambda p: {p.bare: "1"}), *FORM_ROUTES)),
    Position(
        "field that is a list",
        ANY,
        every(more(lambda p: {"x[]": ["one", p.sentence]}), *FORM_ROUTES),
    ),
    Position(
        "deep in an unknown field",
        BARE,
        every(more(lambda p: {"x": {"a": [{"b": {"c": [p.bare]}}]}}), *TEXT_ROUTES),
    ),
    Position("unknown key", BARE, every(more(lambda p: {"x": {p.bare: True}}), *TEXT_ROUTES)),
    Position("number", CARDS, every(more(lambda p: {"x": p.number}), *TEXT_ROUTES)),
    Position(
        "row of character codes",
        ANY,
        every(more(lambda p: {"x": codes(p)}), *TEXT_ROUTES),
        lambda p: (p.sentence,),
    ),
    Position(
        "header",
        BARE,
        every(
            more(lambda p: {HEADERS: {"x-note": p.bare, "user-agent": p.bare}}),
            *_EVERYWHERE,
            *FORM_ROUTES,
        ),
    ),
    Position("query", BARE, every(more(lambda p: {QUERY: {"note": p.bare}}), CHAT, RESPONSES)),
    Position("voice", BARE, {SPEECH: more(lambda p: {"voice": p.bare})}),
    Position("style", BARE, {IMAGES: more(lambda p: {"style": p.bare})}),
)

_SPLITS: Final = (
    Position(
        "split over parts",
        SPLITTABLE,
        {
            CHAT: part(lambda p: [{"type": "text", "text": half} for half in p.halves]),
            RESPONSES: part(lambda p: [{"type": "input_text", "text": half} for half in p.halves]),
        },
        lambda p: p.halves,
    ),
    Position(
        "split over messages",
        SPLITTABLE,
        every(
            before(lambda p: [{"role": "user", "content": half} for half in p.halves]),
            CHAT,
            RESPONSES,
        ),
        lambda p: p.halves,
    ),
    Position(
        "split over texts",
        SPLITTABLE,
        {
            route: (lambda member: lambda b, p: {**b, member: [b[member], *p.halves]})(MAIN[route])
            for route in (COMPLETIONS, EMBEDDINGS)
        },
        lambda p: p.halves,
    ),
    Position(
        "split over fields",
        SPLITTABLE,
        {
            **every(more(lambda p: {"x": {"a": p.halves[0], "b": p.halves[1]}}), *TEXT_ROUTES),
            **every(more(lambda p: {"x_a": p.halves[0], "x_b": p.halves[1]}), *FORM_ROUTES),
        },
        lambda p: p.halves,
    ),
    Position(
        "split over key and value",
        SPLITTABLE,
        every(more(lambda p: {"x": {p.halves[0]: p.halves[1]}}), *TEXT_ROUTES),
        lambda p: p.halves,
    ),
    Position(
        "split over tool arguments",
        SPLITTABLE,
        {
            CHAT: before(lambda p: [call(json.dumps({"parts": list(p.halves)})), result("Done.")]),
            RESPONSES: before(
                lambda p: [item(json.dumps({"parts": list(p.halves)})), output("Done.")]
            ),
        },
        lambda p: p.halves,
    ),
)

#: Forms that are tried on every text route; the others on chat, since all routes read alike.
_COMMON_FORMS: Final = ("base64", "hex", "percent", "entities", "json escapes", "full width")


def _in_form(name: str) -> Position:
    form = FORMS[name]
    routes = TEXT_ROUTES if name in _COMMON_FORMS else (CHAT,)
    puts = main(lambda plant: f"Please use {form(plant.bare)} now.")
    return Position(name, BARE, only(puts, *routes), lambda plant: (form(plant.bare),))


POSITIONS: Final = (
    *_TEXTS,
    *_TOOLS,
    *_FILES,
    *_FIELDS,
    *_SPLITS,
    Position(
        "link",
        BARE,
        only(main(lambda p: f"Read https://example.com/a?of={p.bare} first."), *TEXT_ROUTES),
    ),
    *(_in_form(name) for name in FORMS),
)
