"""Scoring of labels as whole answers of a causal language model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

from sentikit.extension import ChatRequest, choose_device, choose_precision

from .adapters import load_answering_model
from .answer_scores import TokenBatch, score_answers
from .conversation import Conversation
from .loading import DTYPES, context_of
from .settings import LocalSettings

Other = TypeVar("Other")


@dataclass(frozen=True)
class ScoringTask:
    """A prompt and the answers to score.

    Attributes:
        prompt: token ids.
        labels: the answers as text.
        answers: token ids of each label, its end-of-turn token included.
    """

    prompt: tuple[int, ...]
    labels: tuple[str, ...]
    answers: tuple[tuple[int, ...], ...]

    @property
    def length(self) -> int:
        """Number of tokens of the prompt."""
        return len(self.prompt)


class LabelScorer:
    """A loaded model that scores labels.

    A label's score is the sum of the log-probabilities of its tokens and of the end token: the
    log-probability that the whole answer is that label. So labels of different lengths, and labels
    with a common beginning, are comparable.

    Raises:
        InputError: no such model or device.
        SentikitError: the hub cannot be reached.
    """

    def __init__(self, settings: LocalSettings) -> None:
        self._device = choose_device(settings.device)
        dtype = DTYPES[choose_precision(settings.precision, self._device)]
        model, tokenizer = load_answering_model(settings, dtype)
        self._model = model.to(self._device).eval()
        self._conversation = Conversation(tokenizer, settings.template)
        self._batch_tokens = settings.batch_tokens
        self.context = context_of(self._model.config)

    def task(self, request: ChatRequest) -> ScoringTask:
        """Tokenize a request."""
        answers = tuple(self._conversation.answer(label) for label in request.labels)
        return ScoringTask(self._conversation.prompt(request.messages), request.labels, answers)

    def batches(
        self, tasks: Sequence[tuple[ScoringTask, Other]]
    ) -> Iterator[list[tuple[ScoringTask, Other]]]:
        """Yield batches of tasks: sorted by length, with the same labels and bounded tokens."""
        batch: list[tuple[ScoringTask, Other]] = []
        for pair in tasks:
            tokens = (len(batch) + 1) * pair[0].length
            alike = not batch or batch[0][0].answers == pair[0].answers
            if batch and (tokens > self._batch_tokens or not alike):
                yield batch
                batch = []
            batch.append(pair)
        if batch:
            yield batch

    @torch.inference_mode()
    def score(self, tasks: Sequence[ScoringTask]) -> list[dict[str, float]]:
        """Return the labels' log-probabilities for tasks with the same answers."""
        batch = TokenBatch.of([task.prompt for task in tasks], apart=1)
        batch = TokenBatch(*(tensor.to(self._device) for tensor in batch))
        scores = score_answers(self._model, batch, tasks[0].answers)
        return [
            dict(zip(task.labels, row, strict=True))
            for task, row in zip(tasks, scores.double().tolist(), strict=True)
        ]
