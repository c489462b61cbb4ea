"""The leak matrix: planted values, put everywhere, looked for at a recording upstream.

It knows OpenAI's API and nothing of the proxy it checks, so that it can check any.
"""
