"""LiteLLM's SDK."""

import json
import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # no price list from the network

import litellm
from pydantic import BaseModel
from report import BASE_URL, RETRIED, SENTENCE, report

WHERE = {"api_base": BASE_URL, "api_key": "any"}


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


def ask(question, **more):
    messages = [{"role": "user", "content": question}] if isinstance(question, str) else question
    return litellm.completion(model="openai/ringfence", messages=messages, **WHERE, **more)


def stream(question):
    chunks = ask(question, stream=True)
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


def tools(question):
    call = ask(question, tools=[TOOL]).choices[0].message.tool_calls[0].function
    return {"name": call.name, "arguments": json.loads(call.arguments)}


def tool_loop(question):
    message = ask(question, tools=[TOOL]).choices[0].message
    result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "sunny"}
    messages = [{"role": "user", "content": question}, message.model_dump(), result]
    return ask(messages, tools=[TOOL]).choices[0].message.content


def structured(question):
    # By its schema: LiteLLM knows no model called "ringfence", so it would not pass the class on.
    form = {
        "type": "json_schema",
        "json_schema": {"name": "weather", "schema": Weather.model_json_schema()},
    }
    answer = ask(question, response_format=form, allowed_openai_params=["response_format"])
    return Weather.model_validate_json(answer.choices[0].message.content).model_dump()


def embeddings():
    answer = litellm.embedding(model="openai/ringfence", input=["I am Jane Doe."], **WHERE)
    return answer.data[0]["embedding"]


def error():
    try:
        litellm.completion(
            model="openai/nobody", messages=[{"role": "user", "content": "Hello"}], **WHERE
        )
    except litellm.NotFoundError as fault:
        return "model_not_found" if fault.status_code == 404 else fault.status_code


report(
    {
        "chat": lambda question: ask(question).choices[0].message.content,
        "stream": stream,
        "tools": tools,
        "tool_loop": tool_loop,
        "structured": structured,
    },
    {
        "embeddings": embeddings,
        "error": error,
        "retry": lambda: ask(RETRIED, num_retries=2).choices[0].message.content,
    },
)
