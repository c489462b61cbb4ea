"""Pydantic AI: an agent with a tool, and answers of a type."""

import asyncio

from pydantic import BaseModel
from pydantic_ai import Agent, ModelHTTPError, NativeOutput
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from report import BASE_URL, RETRIED, report


class Weather(BaseModel):
    """The weather in a city."""

    city: str
    degrees: int


def model(name="ringfence"):
    return OpenAIChatModel(name, provider=OpenAIProvider(base_url=BASE_URL, api_key="any"))


def weather(city: str) -> str:
    """The weather in a city, by its name."""
    return "sunny"


def chat(question):
    return Agent(model()).run_sync(question).output


def stream(question):
    async def read():
        async with Agent(model()).run_stream(question) as told:
            return "".join(
                [piece async for piece in told.stream_text(delta=True, debounce_by=None)]
            )

    return asyncio.run(read())


def tool_loop(question):
    return Agent(model(), tools=[weather]).run_sync(question).output


def structured(question):
    return Agent(model(), output_type=Weather).run_sync(question).output.model_dump()


def structured_by_schema(question):
    return Agent(model(), output_type=NativeOutput(Weather)).run_sync(question).output.model_dump()


def error():
    try:
        Agent(model("nobody")).run_sync("Hello")
    except ModelHTTPError as fault:
        return fault.body["code"]


report(
    {
        "chat": chat,
        "stream": stream,
        "tool_loop": tool_loop,
        "structured": structured,
        "structured_by_schema": structured_by_schema,
    },
    {"error": error, "retry": lambda: chat(RETRIED)},
)
