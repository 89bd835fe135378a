"""LLMs as classifiers: prompts, what the encoder says, requests and their answers."""
