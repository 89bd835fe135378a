"""Settings of the backend ``local``."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from sentikit.extension import ComponentSettings


class LocalSettings(ComponentSettings):
    """The model, and the device it runs on."""

    model: str = Field(
        min_length=1,
        description="hub id, a folder, a LoRA adapter's folder, or a GGUF file (which needs the "
        "package gguf)",
    )
    revision: str | None = Field(None, description="branch, tag or commit on the hub")
    base: str | None = Field(
        None, description="where the base model of an adapter is now, if it moved"
    )
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1 or mps")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="auto: bf16 where it is faster"
    )
    batch_tokens: int = Field(8192, ge=1, description="tokens of prompts scored together at most")
    template: dict[str, Any] = Field(
        default_factory=dict, description="more keys for the chat template, such as enable_thinking"
    )
