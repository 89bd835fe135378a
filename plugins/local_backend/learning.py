"""The training task of a causal language model: the label as the whole answer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sentikit.extension import Labelled, Message, MicroBatch

from .answer_scores import TokenBatch, score_answers
from .conversation import Conversation, Tokens


class AnswerModel(nn.Module):
    """A causal language model that returns log-probabilities of answers.

    Logits are only computed for answer tokens, since vocabularies are large. The state dict only
    has the trained weights; the others are in the base model's folder.

    Args:
        model: with an adapter.
        answers: token ids of each label.
    """

    def __init__(self, model: nn.Module, answers: Sequence[Tokens]) -> None:
        super().__init__()
        self.model = model
        self._answers = tuple(answers)
        trained = {name for name, p in self.named_parameters() if p.requires_grad}
        self.register_state_dict_post_hook(  # type: ignore[no-untyped-call]
            lambda module, state, prefix, local: _keep(state, {prefix + name for name in trained})
        )
        self.register_load_state_dict_post_hook(  # type: ignore[no-untyped-call]
            lambda module, keys: _keep(keys.missing_keys, trained)
        )

    def forward(
        self, shared: Tensor, ids: Tensor, mask: Tensor, answers: Tensor | None = None
    ) -> Tensor:
        """Return log-probabilities.

        Args:
            shared: see `TokenBatch`.
            ids: of the prompts; if `answers` is given, each is followed by its answer.
            mask: 1 for a token, 0 for padding.
            answers: the ids of the last tokens, (rows, longest answer), -100 before a shorter one.

        Returns:
            Log-probabilities of the given answers, (rows,), or of each label, (rows, labels).
        """
        if answers is None:
            return score_answers(self.model, TokenBatch(shared, ids, mask), self._answers)
        # Each token is predicted by the one before; the last one's prediction is not needed.
        batch = TokenBatch(shared, ids[:, :-1], mask[:, :-1])
        output, _ = batch.read(self.model, keep=answers.shape[1])
        losses = nn.functional.cross_entropy(
            output.logits.float().flatten(0, 1), answers.flatten(), reduction="none"
        )
        return -losses.view_as(answers).sum(1)


def _keep(names: Any, wanted: set[str]) -> None:
    """Remove unwanted names from a dictionary or list, in place."""
    for name in [name for name in names if name not in wanted]:
        if isinstance(names, list):
            names.remove(name)
        else:
            del names[name]


class AnswerLoss:
    """The mean of -log P(label | prompt)."""

    def total_weight(self, batch: NDArray[np.int64]) -> float:
        """Return the number of examples in a batch."""
        return float(len(batch))

    def loss(self, logits: Tensor, micro_batch: MicroBatch, total_weight: float) -> Tensor:
        """Return a micro-batch's part of its batch's mean loss; `logits` are log-probabilities."""
        counted = torch.from_numpy(micro_batch.weights).to(logits.device)
        return -(logits * counted).sum() / total_weight


@dataclass(frozen=True)
class LearntConversations:
    """Prompts and answers as token ids, concatenated.

    Attributes:
        tokens: of all conversations.
        ends: the end of each in `tokens`.
        answers: number of tokens of each answer.
        shown: whether batches include the answers, for training.
    """

    tokens: NDArray[np.int32]
    ends: NDArray[np.int64]
    answers: NDArray[np.int64]
    shown: bool

    def __len__(self) -> int:
        """Return the number of conversations."""
        return len(self.ends)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The number of tokens of each conversation in a batch."""
        whole = np.diff(self.ends, prepend=0)
        return whole if self.shown else whole - self.answers

    def batch(self, rows: NDArray[np.int64]) -> tuple[Tensor, ...]:
        """Return the inputs of `AnswerModel` for rows."""
        starts, lengths = np.concatenate([[0], self.ends[:-1]]), self.lengths
        texts = [self.tokens[starts[row] : starts[row] + lengths[row]] for row in rows]
        if not self.shown:
            return TokenBatch.of(texts, apart=1)
        longest = int(self.answers[rows].max())
        batch = TokenBatch.of(texts, apart=longest + 1)
        answers = batch.ids[:, -longest:].clone()
        for number, row in enumerate(rows):
            answers[number, : longest - self.answers[row]] = -100
        return *batch, answers


def read_conversations(
    path: Path, conversation: Conversation, classes: Sequence[str], shown: bool
) -> Labelled:
    """Read a fine-tuning file: messages, of which the last is the label."""
    tokens: list[int] = []
    ends, answers, gold = [], [], []
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            *prompt, label = (Message(**message) for message in json.loads(line)["messages"])
            answer = conversation.answer(label.content)
            tokens += conversation.prompt(prompt)
            tokens += answer
            ends.append(len(tokens))
            answers.append(len(answer))
            gold.append(classes.index(label.content))
    inputs = LearntConversations(
        np.array(tokens, np.int32), np.array(ends), np.array(answers), shown
    )
    return Labelled(inputs, np.array(gold, np.int64))
