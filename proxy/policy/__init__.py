"""What may leave: the language of policy files, the decision, and the tools around them."""
