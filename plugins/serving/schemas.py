"""Requests and responses of the server, as text-embeddings-inference 1.9.3 defines them.

See its docs/openapi.json (https://github.com/huggingface/text-embeddings-inference).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Text = Annotated[str, StringConstraints(strict=True), Field(json_schema_extra={"pattern": r"\S"})]

Single = Annotated[list[Text], Field(min_length=1, max_length=1)]
#: An empty list is refused with TEI's message, so only the description requires an item.
Batch = Annotated[list[Single], Field(json_schema_extra={"minItems": 1})]


class PredictRequest(BaseModel):
    """The body of ``POST /predict``."""

    model_config = ConfigDict(strict=True)

    inputs: Text | Single | Batch = Field(
        description="one text, alone or in a list; or a batch of texts, each in a list of its own",
        examples=["I love it", [["I love it"], ["Not worth a cent"]]],
    )
    truncate: bool | None = Field(
        None, description="ignored: texts are truncated as the classifier's recipe says"
    )
    truncation_direction: Literal["Left", "Right", "left", "right"] = Field(
        "Right", description="ignored, as truncate"
    )
    raw_scores: bool = Field(
        False,
        description="refused when true: classifiers give probabilities, not logits",
        json_schema_extra={"const": False},
    )


class Score(BaseModel):
    """One class of a prediction."""

    label: str
    score: float


class ClassifierModel(BaseModel):
    """The classes of a classifier."""

    id2label: dict[str, str]
    label2id: dict[str, int]


class ModelType(BaseModel):
    """The kind of model."""

    classifier: ClassifierModel


class Info(BaseModel):
    """The response of ``GET /info``."""

    model_id: str
    model_sha: str | None = None
    model_dtype: str
    served_model_name: str
    model_type: ModelType
    max_concurrent_requests: int
    max_input_length: int
    max_batch_tokens: int
    max_batch_requests: int | None
    max_client_batch_size: int
    auto_truncate: bool = True
    tokenization_workers: int = 1
    version: str
    sha: str | None = None
    docker_label: str | None = None


class ErrorResponse(BaseModel):
    """The body of every error response."""

    error: str
    error_type: Literal["Unhealthy", "Backend", "Overloaded", "Validation", "Tokenizer", "Empty"]
