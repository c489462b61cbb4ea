// The Vercel AI SDK, with its provider for endpoints that speak OpenAI's protocol.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, embed, generateText, Output, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";
import { BASE_URL, RETRIED, SENTENCE, report } from "./report.mjs";

const ringfence = createOpenAICompatible({
  name: "ringfence",
  baseURL: BASE_URL,
  apiKey: "any",
  supportsStructuredOutputs: true,
});
const model = ringfence("ringfence");
const weather = tool({
  description: SENTENCE,
  inputSchema: z.object({ city: z.string() }),
  execute: async () => "sunny",
});

const chat = async (prompt) => (await generateText({ model, prompt })).text;

async function stream(prompt) {
  let told = "";
  for await (const piece of streamText({ model, prompt }).textStream) told += piece;
  return told;
}

async function tools(prompt) {
  const { toolCalls } = await generateText({ model, prompt, tools: { weather } });
  return { name: toolCalls[0].toolName, arguments: toolCalls[0].input };
}

const toolLoop = async (prompt) =>
  (await generateText({ model, prompt, tools: { weather }, stopWhen: stepCountIs(3) })).text;

async function structured(prompt) {
  const schema = z.object({ city: z.string(), degrees: z.number() });
  return (await generateText({ model, prompt, output: Output.object({ schema }) })).output;
}

async function embeddings() {
  const { embedding } = await embed({
    model: ringfence.textEmbeddingModel("ringfence"),
    value: "I am Jane Doe.",
  });
  return embedding;
}

async function error() {
  try {
    await generateText({ model: ringfence("nobody"), prompt: "Hello" });
  } catch (fault) {
    return APICallError.isInstance(fault) ? JSON.parse(fault.responseBody).error.code : String(fault);
  }
}

await report(
  { chat, stream, tools, tool_loop: toolLoop, structured },
  { embeddings, error, retry: () => chat(RETRIED) },
);
