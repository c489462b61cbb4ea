"""Instructor: structured answers through tool calls."""

import instructor
import openai
from pydantic import BaseModel
from report import BASE_URL, RETRIED, report

client = instructor.from_openai(openai.OpenAI(base_url=BASE_URL, api_key="any"))
by_schema = instructor.from_openai(
    openai.OpenAI(base_url=BASE_URL, api_key="any"), mode=instructor.Mode.JSON_SCHEMA
)


class Weather(BaseModel):
    """The weather in a city."""

    city: str
    degrees: int


def say(question):
    return {"model": "ringfence", "messages": [{"role": "user", "content": question}]}


def structured(question):
    return client.create(response_model=Weather, **say(question)).model_dump()


def structured_by_schema(question):
    return by_schema.create(response_model=Weather, **say(question)).model_dump()


def structured_stream(question):
    *_, last = client.create_partial(response_model=Weather, **say(question))
    return last.model_dump()


report(
    {
        "structured": structured,
        "structured_by_schema": structured_by_schema,
        "structured_stream": structured_stream,
    },
    {"structured_retry": lambda: structured(RETRIED)},
)
