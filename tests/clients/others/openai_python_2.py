"""`openai` for Python, the major version before the one that the proxy itself stands on."""

import asyncio
import json

import openai
from pydantic import BaseModel
from report import BASE_URL, RETRIED, SENTENCE, report

client = openai.OpenAI(base_url=BASE_URL, api_key="any")


class Weather(BaseModel):
    city: str
    degrees: int


TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": SENTENCE,
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


def say(question):
    return [{"role": "user", "content": question}]


def chat(question):
    return (
        client.chat.completions.create(model="ringfence", messages=say(question))
        .choices[0]
        .message.content
    )


def chat_async(question):
    async def ask():
        async with openai.AsyncOpenAI(base_url=BASE_URL, api_key="any") as mine:
            return await mine.chat.completions.create(model="ringfence", messages=say(question))

    return asyncio.run(ask()).choices[0].message.content


def stream(question):
    with client.chat.completions.create(
        model="ringfence", messages=say(question), stream=True
    ) as chunks:
        return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)


def tools(question):
    answer = client.chat.completions.create(model="ringfence", messages=say(question), tools=[TOOL])
    call = answer.choices[0].message.tool_calls[0].function
    return {"name": call.name, "arguments": json.loads(call.arguments)}


def tool_loop(question):
    asked = client.chat.completions.create(model="ringfence", messages=say(question), tools=[TOOL])
    message = asked.choices[0].message
    result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "sunny"}
    messages = [*say(question), message.model_dump(exclude_none=True), result]
    told = client.chat.completions.create(model="ringfence", messages=messages, tools=[TOOL])
    return told.choices[0].message.content


def structured(question):
    answer = client.chat.completions.parse(
        model="ringfence", messages=say(question), response_format=Weather
    )
    return answer.choices[0].message.parsed.model_dump()


def embeddings(question):
    return client.embeddings.create(model="ringfence", input=question).data[0].embedding


def error():
    try:
        client.chat.completions.create(model="nobody", messages=say("Hello"))
    except openai.NotFoundError as fault:
        return fault.code


report(
    {
        "chat": chat,
        "chat_async": chat_async,
        "stream": stream,
        "tools": tools,
        "tool_loop": tool_loop,
        "structured": structured,
    },
    {
        "embeddings": lambda: embeddings("I am Jane Doe."),
        "error": error,
        "retry": lambda: chat(RETRIED),
    },
)
