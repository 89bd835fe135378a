"""Requests to LLM backends: calls, retries, pacing, budget, batches and the answer journal."""
