"""The front door: strict HTTP and JSON in, OpenAI's form out."""
