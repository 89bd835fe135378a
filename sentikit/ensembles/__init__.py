"""Classifiers that answer together: an encoder with an LLM behind it, and votes."""
