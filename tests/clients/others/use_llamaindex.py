"""LlamaIndex, through its class for endpoints that speak OpenAI's protocol."""

import openai
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel
from report import BASE_URL, RETRIED, report


def llm(name="ringfence"):
    return OpenAILike(
        model=name,
        api_base=BASE_URL,
        api_key="any",
        is_chat_model=True,
        is_function_calling_model=True,
    )


model = llm()


class Weather(BaseModel):
    """The weather in a city."""

    city: str
    degrees: int


def weather(city: str) -> str:
    """The weather in a city, by its name."""
    return "sunny"


WEATHER = FunctionTool.from_defaults(weather)


def chat(question):
    return model.chat([ChatMessage(role="user", content=question)]).message.content


def stream(question):
    chunks = model.stream_chat([ChatMessage(role="user", content=question)])
    return "".join(chunk.delta or "" for chunk in chunks)


def tools(question):
    answer = model.chat_with_tools([WEATHER], user_msg=question)
    call = model.get_tool_calls_from_response(answer)[0]
    return {"name": call.tool_name, "arguments": call.tool_kwargs}


def tool_loop(question):
    told = model.predict_and_call([WEATHER], user_msg=question)
    asked = model.chat_with_tools([WEATHER], user_msg=question).message
    call = asked.additional_kwargs["tool_calls"][0]
    result = ChatMessage(
        role="tool", content=str(told), additional_kwargs={"tool_call_id": call.id}
    )
    messages = [ChatMessage(role="user", content=question), asked, result]
    return model.chat_with_tools([WEATHER], chat_history=messages).message.content


def structured(question):
    answer = model.as_structured_llm(Weather).chat([ChatMessage(role="user", content=question)])
    return answer.raw.model_dump()


def embeddings():
    embedder = OpenAILikeEmbedding(model_name="ringfence", api_base=BASE_URL, api_key="any")
    return embedder.get_text_embedding("I am Jane Doe.")


def error():
    try:
        llm("nobody").chat([ChatMessage(role="user", content="Hello")])
    except openai.NotFoundError as fault:
        return fault.code


report(
    {
        "chat": chat,
        "stream": stream,
        "tools": tools,
        "tool_loop": tool_loop,
        "structured": structured,
    },
    {"embeddings": embeddings, "error": error, "retry": lambda: chat(RETRIED)},
)
