"""The exact prompt strategies of the ELECTRA and GPT-4o study (Beno 2025, appendix D)."""

from typing import Any

from sentikit import hookimpl


@hookimpl
def register_prompt_strategies(register: Any) -> None:
    """Register the study's seven strategies, and the minimal one of its fine-tuned models."""
    strategies = {
        "zero-shot": ("ZeroShot", "the review alone"),
        "label": ("Label", "the encoder's label"),
        "probabilities": ("Probabilities", "the encoder's probabilities"),
        "label-probabilities": ("LabelProbabilities", "the encoder's label and probabilities"),
        "examples": ("LabelExamples", "the encoder's label and the nearest reviews"),
        "balanced-examples": (
            "LabelBalancedExamples",
            "the encoder's label and the nearest reviews of each class",
        ),
        "all": ("Everything", "the encoder's label and probabilities, and the nearest reviews"),
        "minimal": ("Minimal", "the bare review, for minimally fine-tuned models"),
    }
    for name, (target, summary) in strategies.items():
        register(name, f"{__name__}.strategies:{target}", summary=summary)
