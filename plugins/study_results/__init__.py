"""Layouts of result files: those of the ELECTRA and GPT-4o study, and common ones."""

from typing import Any

from sentikit import hookimpl


@hookimpl
def register_result_formats(register: Any) -> None:
    """Register the study's two layouts and common column names."""
    register(
        "study-encoder",
        f"{__name__}.formats:StudyEncoder",
        summary="the study's ELECTRA files: X_test_sent, y_test, y_pred",
    )
    register(
        "study-llm",
        f"{__name__}.formats:StudyLLM",
        summary="the study's GPT files: review, classification, prediction, match, …, source",
    )
    register(
        "usual-columns",
        f"{__name__}.formats:UsualColumns",
        summary="any file with a column like prediction and one like label or gold",
    )
