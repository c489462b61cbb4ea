// `openai` for Node.
import OpenAI, { NotFoundError } from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";
import { BASE_URL, RETRIED, SENTENCE, report } from "./report.mjs";

const client = new OpenAI({ baseURL: BASE_URL, apiKey: "any" });
const Weather = z.object({ city: z.string(), degrees: z.number() });
const tool = {
  type: "function",
  function: {
    name: "weather",
    description: SENTENCE,
    parameters: { type: "object", properties: { city: { type: "string" } } },
  },
};
const say = (question) => [{ role: "user", content: question }];
const ask = (question, more) =>
  client.chat.completions.create({ model: "ringfence", messages: say(question), ...more });

async function chat(question) {
  return (await ask(question)).choices[0].message.content;
}

async function stream(question) {
  let told = "";
  for await (const chunk of await ask(question, { stream: true }))
    told += chunk.choices[0]?.delta?.content ?? "";
  return told;
}

async function streamHelper(question) {
  const told = client.chat.completions.stream({ model: "ringfence", messages: say(question) });
  return await told.finalContent();
}

async function tools(question) {
  const call = (await ask(question, { tools: [tool] })).choices[0].message.tool_calls[0].function;
  return { name: call.name, arguments: JSON.parse(call.arguments) };
}

async function toolLoop(question) {
  const { message } = (await ask(question, { tools: [tool] })).choices[0];
  const result = { role: "tool", tool_call_id: message.tool_calls[0].id, content: "sunny" };
  const messages = [...say(question), message, result];
  return (await ask(question, { messages, tools: [tool] })).choices[0].message.content;
}

async function structured(question) {
  const answer = await client.chat.completions.parse({
    model: "ringfence",
    messages: say(question),
    response_format: zodResponseFormat(Weather, "weather"),
  });
  return answer.choices[0].message.parsed;
}

async function embeddings() {
  const answer = await client.embeddings.create({ model: "ringfence", input: "I am Jane Doe." });
  return answer.data[0].embedding;
}

async function error() {
  try {
    await ask("Hello", { model: "nobody" });
  } catch (fault) {
    return fault instanceof NotFoundError ? fault.code : String(fault);
  }
}

await report(
  { chat, stream, stream_helper: streamHelper, tools, tool_loop: toolLoop, structured },
  { embeddings, error, retry: () => chat(RETRIED) },
);
