"""The LLM backend ``openai``: OpenAI, and any server with its chat protocol."""

from typing import Any

from sentikit import hookimpl


@hookimpl
def register_llm_backends(register: Any) -> None:
    """Register ``openai``."""
    register(
        "openai",
        f"{__name__}.backend:OpenAIBackend",
        summary="OpenAI, and with base_url vLLM, llama.cpp, Ollama, Azure, gateways",
    )
