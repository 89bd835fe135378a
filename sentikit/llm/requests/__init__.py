"""The request loop: many questions to an LLM backend, quickly, once each, within a budget."""
