"""LLMs as classifiers: backends, prompt strategies, requests and prices."""
