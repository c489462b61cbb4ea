"""Words of the API itself, which need no inspection: a fixed, public word carries nothing.

The list is free of positions on purpose. Inspection and the egress door use the same one, so that a
string is either on it, or was read, or does not leave.
"""

from __future__ import annotations

from typing import Final

#: Numbers with fewer digits than this identify nobody.
MIN_NUMBER_DIGITS: Final = 6

#: More white space than this could be a message in itself.
MAX_BLANK_CHARS: Final = 16

#: Source: the OpenAI API reference, and the JSON Schema 2020-12 vocabulary.
STRUCTURAL_WORDS: Final = frozenset(
    """
    additionalProperties allOf allowed_tools annotations anyOf approximate arguments array assistant
    audio auto base64 best_of boolean call_id city code completed const content content_filter
    country custom data date-time default definition description detail developer dimensions echo
    effort email encoding_format enum exact exclusiveMaximum exclusiveMinimum false file file_data
    file_id filename flac float format frequency_penalty function function_call function_call_output
    functions grammar high id image image_url include include_obfuscation include_usage input
    input_audio input_file input_image input_text instructions integer items json_object json_schema
    lark length location logit_bias logprobs low max_completion_tokens max_output_tokens max_tokens
    maximum maxItems maxLength medium message messages metadata minimal minimum minItems minLength
    modalities mode model mp3 multipleOf n name none not null number object oneOf opus output
    output_text parallel_tool_calls parameters pattern pcm16 prediction presence_penalty prompt
    prompt_cache_key prompt_cache_retention properties reasoning reasoning_effort refusal region
    required response_format role safety_identifier schema search_context_size seed service_tier
    standard status stop store stream stream_options strict string suffix summary syntax system
    temperature text timezone title tool tool_call_id tool_calls tool_choice tools top_logprobs
    top_p true type uniqueItems url user user_location uuid verbosity voice wav web_search_options
    xhigh message.output_text.logprobs
    $defs $id $ref $schema
    """.split()
)


def is_structural(text: str) -> bool:
    """Whether ``text`` is a word of the API, or nothing but a little white space."""
    blank = len(text) <= MAX_BLANK_CHARS and not text.strip(" \t\r\n")
    return blank or text in STRUCTURAL_WORDS


def number_text(number: float) -> str:
    """A number as decimal text; a whole float without its ``.0``, which hides nothing."""
    if isinstance(number, float) and number.is_integer() and abs(number) < 1e17:
        return str(int(number))
    return repr(number)


def is_structural_number(number: float) -> bool:
    """Whether ``number`` has too few digits to be an identifier."""
    return sum(char.isdigit() for char in number_text(number)) < MIN_NUMBER_DIGITS
