"""LangChain's OpenAI integration."""

import openai
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel
from report import BASE_URL, RETRIED, report

model = ChatOpenAI(base_url=BASE_URL, api_key="any", model="ringfence")


class Weather(BaseModel):
    """The weather in a city."""

    city: str
    degrees: int


@tool
def weather(city: str) -> str:
    """The weather in a city, by its name."""
    return "sunny"


def stream(question):
    return "".join(chunk.content for chunk in model.stream(question))


def tools(question):
    call = model.bind_tools([weather]).invoke(question).tool_calls[0]
    return {"name": call["name"], "arguments": call["args"]}


def tool_loop(question):
    able = model.bind_tools([weather])
    asked = able.invoke(question)
    call = asked.tool_calls[0]
    result = ToolMessage(weather.invoke(call["args"]), tool_call_id=call["id"])
    return able.invoke([HumanMessage(question), asked, result]).content


def structured(question):
    return model.with_structured_output(Weather).invoke(question).model_dump()


def embeddings():
    # Texts, not token ids: the default reads a table of another model's tokens from the network.
    embedder = OpenAIEmbeddings(
        base_url=BASE_URL, api_key="any", model="ringfence", check_embedding_ctx_length=False
    )
    return embedder.embed_query("I am Jane Doe.")


def error():
    try:
        ChatOpenAI(base_url=BASE_URL, api_key="any", model="nobody").invoke("Hello")
    except openai.NotFoundError as fault:
        return fault.code


report(
    {
        "chat": lambda question: model.invoke(question).content,
        "stream": stream,
        "tools": tools,
        "tool_loop": tool_loop,
        "structured": structured,
    },
    {
        "embeddings": embeddings,
        "error": error,
        "retry": lambda: model.invoke(RETRIED).content,
    },
)
