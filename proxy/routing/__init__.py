"""How far a draft is to be trusted, and where the answer comes from."""
