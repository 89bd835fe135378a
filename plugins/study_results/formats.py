"""Formats of result files, recognised by their columns."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sentikit.extension import ResultColumns, ResultFormat

_PREDICTED = ("prediction", "predicted", "predicted_label", "pred", "y_pred", "label_predicted")
_GOLD = (
    "gold",
    "gold_label",
    "true_label",
    "y_true",
    "y_test",
    "label",
    "sentiment",
    "classification",
    "class",
    "target",
    "label_text",
)
_PROBABILITIES = ("probabilities", "probs", "probability", "scores")
_RAW = ("answer", "raw", "raw_answer", "response", "completion", "output")
_COST = ("cost", "cost_usd", "usd")
_ONE_CLASS = re.compile(r"(?:p|prob|probability|score)[_ -](?P<name>.+)", re.IGNORECASE)


class StudyEncoder(ResultFormat):
    """Files of the study's fine-tuning script."""

    def columns(self, columns: Sequence[str]) -> ResultColumns | None:
        """Recognise X_test_sent, y_test, y_pred."""
        if not {"X_test_sent", "y_test", "y_pred"} <= set(columns):
            return None
        return ResultColumns(label="y_pred", gold="y_test", text="X_test_sent")


class StudyLLM(ResultFormat):
    """Files of the study's prompting notebooks; `probabilities` are the encoder's."""

    def columns(self, columns: Sequence[str]) -> ResultColumns | None:
        """Recognise review, classification, prediction, match, and perhaps a shown prediction."""
        if not {"review", "classification", "prediction", "match"} <= set(columns):
            return None
        return ResultColumns(
            label="prediction",
            gold="classification",
            text="review",
            source=_present("source", columns),
            adviser_label=_present("classifier_decision", columns),
            adviser_probabilities=_present("probabilities", columns),
        )


class UsualColumns(ResultFormat):
    """Files with common column names.

    Without a column named like a prediction, ``label`` is used, as in the output of ``sentikit
    predict`` and in a run's predictions.
    """

    last_resort = True

    def columns(self, columns: Sequence[str]) -> ResultColumns | None:
        """Recognise a column of predictions, and others."""
        label = _first(_PREDICTED, columns) or _first(("label",), columns)
        if label is None:
            return None
        others = [column for column in columns if column != label]
        listed = _first(_PROBABILITIES, others)
        return ResultColumns(
            label=label,
            gold=_first(_GOLD, others),
            probabilities=listed or _class_columns(others),
            raw=_first(_RAW, others),
            cost=_first(_COST, others),
        )


def _present(column: str, columns: Sequence[str]) -> str | None:
    return column if column in columns else None


def _first(names: Sequence[str], columns: Sequence[str]) -> str | None:
    folded = {column.strip().casefold(): column for column in columns}
    return next((folded[name] for name in names if name in folded), None)


def _class_columns(columns: Sequence[str]) -> dict[str, str] | None:
    """Find columns like ``prob_negative``, one for each class."""
    matches = {column: _ONE_CLASS.fullmatch(column.strip()) for column in columns}
    found = {match["name"]: column for column, match in matches.items() if match}
    return found if len(found) > 1 else None
