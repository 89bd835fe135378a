"""The code of a logged model, which MLflow runs to load it; nothing is pickled.

See https://mlflow.org/docs/latest/ml/model/models-from-code/.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from sentikit import Classifier, InputError, load

if TYPE_CHECKING:
    import pandas as pd


class SentikitModel(PythonModel):  # type: ignore[misc, unused-ignore]
    """A model that labels the texts of a table."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the classifier."""
        self._classifier: Classifier = load(context.artifacts["model"])

    def predict(
        self,
        context: PythonModelContext,
        model_input: Any,
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Return the label and each class's probability, one row per text; none without text.

        Args:
            context: of the model.
            model_input: a table with a column ``text``, or with one column; or a list of texts.
            params: none.
        """
        import pandas as pd

        texts = _texts(model_input)
        predictions = iter(self._classifier.classify([text for text in texts if text.strip()]))
        rows = [next(predictions) if text.strip() else None for text in texts]
        table = pd.DataFrame({"predicted_label": [row.label if row else None for row in rows]})
        for label in self._classifier.labels:
            shares = [row.probabilities if row else None for row in rows]
            table[f"probability_{label}"] = [one[label] if one else None for one in shares]
        # MLflow answers requests with JSON, which has no NaN.
        known = table.notna()
        return table if known.all(axis=None) else table.astype(object).where(known, None)


def _texts(model_input: Any) -> list[str]:
    """Return the texts, "" for missing ones."""
    import pandas as pd

    columns = getattr(model_input, "columns", None)
    if columns is not None and "text" not in columns and len(columns) != 1:
        raise InputError(
            f"The input has the columns {', '.join(map(str, columns))}; one of them must be "
            "named text."
        )
    given = model_input
    if columns is not None:
        given = model_input["text" if "text" in columns else columns[0]]
    return ["" if pd.isna(text) else str(text) for text in given]


set_model(SentikitModel())
