"""The on-premises tier: the client of any OpenAI-style endpoint, and the embedded server."""
