"""The routes of OpenAI's API, each described once, for every stage that must know them apart."""
