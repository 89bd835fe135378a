"""The study's strategies: each defines the fields of its prompt."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence

from pydantic import Field as Setting

from sentikit.extension import (
    ComponentSettings,
    ExamplesNeeded,
    Message,
    Needs,
    PromptInput,
    PromptStrategy,
    RetrievedExample,
)

from .template import Field, enumerate_classes, render

TRAINING_SYSTEM = "You are a sentiment analysis assistant."
_FROM_A_MODEL = " from a model fine-tuned on sentiment"


class StudySettings(ComponentSettings):
    """Settings of the study's strategies that use the template."""

    fine_tuned: bool = Setting(
        False, description="the model was fine-tuned on these prompts: add their system message"
    )


class StudyStrategy(PromptStrategy):
    """A strategy with the study's template; subclasses define the fields.

    A model that is not fine-tuned gets one user message, a fine-tuned one also the system message
    of its training.
    """

    Settings = StudySettings
    settings: StudySettings

    def messages(self, given: PromptInput) -> list[Message]:
        """Return the filled-in template, after the system message if there is one."""
        prompt = Message("user", render(self.fields(given), given.classes))
        if self.settings.fine_tuned:
            return [Message("system", TRAINING_SYSTEM), prompt]
        return [prompt]

    @abstractmethod
    def fields(self, given: PromptInput) -> list[Field]:
        """Return the fields before ``Classification``, in order."""


class ZeroShot(StudyStrategy):
    """The review alone."""

    def fields(self, given: PromptInput) -> list[Field]:
        """Return the review."""
        return [_review(given)]


class Label(StudyStrategy):
    """The encoder's label."""

    def needs(self) -> Needs:
        """Ask for the label."""
        return Needs(label=True)

    def fields(self, given: PromptInput) -> list[Field]:
        """Return review and label."""
        return [_review(given), _decision(given)]


class Probabilities(StudyStrategy):
    """The encoder's probabilities."""

    def needs(self) -> Needs:
        """Ask for the probabilities."""
        return Needs(probabilities=True)

    def fields(self, given: PromptInput) -> list[Field]:
        """Return review and probabilities."""
        return [_review(given), *_probabilities(given, _FROM_A_MODEL)]


class LabelProbabilities(StudyStrategy):
    """The encoder's label and probabilities."""

    def needs(self) -> Needs:
        """Ask for both."""
        return Needs(label=True, probabilities=True)

    def fields(self, given: PromptInput) -> list[Field]:
        """Return review, label and probabilities."""
        return [_review(given), _decision(given), *_probabilities(given)]


class ExamplesSettings(StudySettings):
    """Settings of strategies that show the nearest reviews."""

    k: int = Setting(5, ge=1, description="how many reviews to show")


class LabelExamples(StudyStrategy):
    """The encoder's label and the nearest reviews."""

    Settings = ExamplesSettings
    settings: ExamplesSettings

    def needs(self) -> Needs:
        """Ask for the label and the k most similar reviews."""
        return Needs(label=True, examples=ExamplesNeeded(self.settings.k))

    def fields(self, given: PromptInput) -> list[Field]:
        """Return examples, review and label."""
        return [_examples(given.examples), _review(given), _decision(given)]


class BalancedExamplesSettings(ExamplesSettings):
    """Settings of ``balanced-examples``."""

    k: int = Setting(2, ge=1, description="how many reviews of each class to show")


class LabelBalancedExamples(LabelExamples):
    """The encoder's label and the nearest reviews of each class."""

    Settings = BalancedExamplesSettings
    settings: BalancedExamplesSettings

    def needs(self) -> Needs:
        """Ask for the label and the k most similar reviews of each class."""
        return Needs(label=True, examples=ExamplesNeeded(self.settings.k, balanced=True))


class Everything(LabelExamples):
    """The encoder's label and probabilities, and the nearest reviews."""

    def needs(self) -> Needs:
        """Ask for label, probabilities and reviews."""
        return Needs(True, True, ExamplesNeeded(self.settings.k))

    def fields(self, given: PromptInput) -> list[Field]:
        """Return examples, review, label and probabilities."""
        return [*super().fields(given), *_probabilities(given)]


class Minimal(PromptStrategy):
    """The bare review, after the system message of minimal fine-tuning (appendix C)."""

    def messages(self, given: PromptInput) -> list[Message]:
        """Return system message and review."""
        choices = enumerate_classes(given.classes[::-1])
        task = f"You are a model that classifies the sentiment of a review as either {choices}."
        return [Message("system", task), Message("user", given.text)]


def _review(given: PromptInput) -> Field:
    return Field("Review", "The review text to classify.", given.text)


def _decision(given: PromptInput) -> Field:
    assert given.adviser_prediction is not None
    assert given.adviser_prediction.label is not None
    description = "The sentiment classification proposed by a model fine-tuned on sentiment."
    return Field("Classifier Decision", description, given.adviser_prediction.label)


def _probabilities(given: PromptInput, origin: str = "") -> list[Field]:
    assert given.adviser_prediction is not None
    probabilities: Mapping[str, float] = given.adviser_prediction.probabilities or {}
    return [
        Field(
            f"{name.title()} Probability",
            f"Probability the review is {name}{origin}",
            f"{probabilities[name] * 100:.2f}%",
        )
        for name in given.classes
    ]


def _examples(examples: Sequence[RetrievedExample]) -> Field:
    description = "A list of examples that demonstrate different sentiment classes."
    lines = [f"- {example.label}: {example.text}" for example in examples]
    return Field("Examples", description, "\n".join(lines), separator="\n")
