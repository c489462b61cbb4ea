// What the scripts for Node share; the same questions and the same lines as report.py.
export const BASE_URL = process.env.BASE_URL;
export const QUESTIONS = {
  home: "I am Jane Doe, my mail is jane.doe@example.com. Name a long river.",
  cloud: "Name a long river.",
};
export const RETRIED = `${QUESTIONS.home} (fail once: ${process.env.CLIENT})`;
export const SENTENCE = "The weather in a city, by its name.";

async function say(ask, place, call) {
  let value;
  try {
    value = await call();
  } catch (fault) {
    value = { raised: String(fault.stack ?? fault) };
  }
  console.log(JSON.stringify({ ask, place, value }));
}

export async function report(asks, once) {
  for (const [name, ask] of Object.entries(asks))
    for (const [place, question] of Object.entries(QUESTIONS))
      await say(name, place, () => ask(question));
  for (const [name, call] of Object.entries(once)) await say(name, "home", call);
}
