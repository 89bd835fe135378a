"""Loads a classifier from whatever stands for one."""

from __future__ import annotations

from pathlib import Path

from sentikit.classifiers.classifier import Classifier
from sentikit.classifiers.loading import load as load_model
from sentikit.errors import InputError
from sentikit.labelling.prompting import load_llm
from sentikit.registry import Registry, default_registry


def load(
    name: str | Path,
    *,
    device: str = "auto",
    precision: str = "auto",
    calibrated: bool = False,
    registry: Registry | None = None,
) -> Classifier:
    """Load a classifier from a run of any kind, a recipe, or a model folder.

    Args:
        name: what to load.
        device: auto, cpu, cuda, cuda:1, mps.
        precision: auto, fp32, bf16, fp16, or int8 for an ONNX folder that holds it.
        calibrated: divide the logits by the temperature fitted on validation.
        registry: where to look for components.

    Raises:
        InputError: nothing of that name is a classifier.
    """
    registry = registry or default_registry()

    def own(path: str | Path) -> Classifier:
        return load(
            path, device=device, precision=precision, calibrated=calibrated, registry=registry
        )

    found = load_llm(str(name), registry, own)
    if found is not None:
        if calibrated:
            raise InputError(f"{name} asks an LLM, which has no temperature. Leave it out.")
        return found
    return load_model(
        name, device=device, precision=precision, calibrated=calibrated, registry=registry
    )
