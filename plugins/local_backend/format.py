"""The format ``causal-lm``: a complete fine-tuned language model, in transformers' layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from sentikit import InputError
from sentikit.extension import ComponentSettings, ExportSource, ModelFormat

from .settings import LocalSettings

_CONFIG = "adapter_config.json"


class CausalLMFormat(ModelFormat):
    """A language model with the adapter merged into its weights.

    It is for servers without support for adapters, and for base models that only this machine has.
    Servers that support them, such as vLLM, read the run's ``model/``.
    """

    class Settings(ComponentSettings):
        """Options of ``sentikit export``."""

        base: str | None = Field(None, description="where the base model is now, if it moved")
        precision: Literal["fp32", "bf16", "fp16"] = Field(
            "fp32", description="precision of the written weights"
        )

    settings: Settings

    def recognises(self, folder: Path) -> bool:
        """Return whether `folder` has an adapter of a language model."""
        return (folder / _CONFIG).is_file()

    def load(self, folder: Path, device: str, precision: str) -> Any:
        """Refuse to load: a language model needs prompts.

        Raises:
            InputError: always, with the command to use.
        """
        raise InputError(
            f"{folder} is a fine-tuned language model, which needs prompts: sentikit prompt "
            f"--recipe … --set llm.backend=local --set llm.model={folder}"
        )

    def export(self, source: ExportSource, folder: Path) -> list[str]:
        """Write weights, configuration and tokenizer.

        Raises:
            InputError: the source is not an adapter, its base model is missing, or peft is.
        """
        import torch

        from .adapters import load_answering_model
        from .loading import DTYPES

        if not self.recognises(source.folder):
            raise InputError(
                f"{source.path} holds no fine-tuned language model. The format 'causal-lm' writes "
                "models that sentikit gpt-finetune trained on this machine."
            )
        settings = LocalSettings(model=str(source.folder), base=self.settings.base)
        model, tokenizer = load_answering_model(settings, torch.float32)
        model.to(DTYPES[self.settings.precision]).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return []
