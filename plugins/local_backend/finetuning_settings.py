"""Settings of local fine-tuning."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from sentikit.extension import ComponentSettings, LoopSettings


class LoraSettings(ComponentSettings):
    """The adapter, the trained addition to the model (https://arxiv.org/abs/2106.09685)."""

    rank: int = Field(16, ge=1, description="columns of each low-rank matrix")
    alpha: float = Field(32, gt=0, description="the addition is multiplied by alpha / rank")
    dropout: float = Field(
        0.0, ge=0, lt=1, description="dropout of the adapter's inputs, in training"
    )
    targets: str | list[str] = Field(
        "all-linear", description="all-linear, or names of layers, such as [q_proj, v_proj]"
    )


class LocalFineTuningSettings(LoopSettings):
    """The model and its training. Sizes count examples, rates are per optimizer step."""

    model: str = Field(
        min_length=1, description="hub id, a folder, or a GGUF file (which needs the package gguf)"
    )
    revision: str | None = Field(None, description="branch, tag or commit on the hub")
    template: dict[str, Any] = Field(
        default_factory=dict, description="more keys for the chat template, such as enable_thinking"
    )
    lora: LoraSettings = Field(default_factory=LoraSettings, description="the adapter's size")
    lr: float = Field(2e-4, gt=0, description="learning rate")
    weight_decay: float = Field(0.0, ge=0, description="decoupled for adamw, L2 for the others")
