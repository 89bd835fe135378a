"""Log-probabilities of whole answers to prompts.

Prompts of a batch usually begin with the same instruction. The shared prefix is computed once: the
states of its tokens do not depend on later ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor


class TokenBatch(NamedTuple):
    """Texts as tensors.

    Attributes:
        shared: ids of the common prefix, (1, shared).
        ids: of the rest of each, left-padded, (rows, longest).
        mask: 1 for a token, 0 for padding, (rows, longest).
    """

    shared: Tensor
    ids: Tensor
    mask: Tensor

    @classmethod
    def of(cls, texts: Sequence[ArrayLike], apart: int) -> TokenBatch:
        """Create a batch.

        Args:
            texts: token ids.
            apart: number of tokens at the end of each text that are never shared.
        """
        rows = [np.asarray(text, np.int64) for text in texts]
        shared = _shared(rows, apart) if len(rows) > 1 else 0
        longest = max(map(len, rows)) - shared
        ids = torch.zeros(len(rows), longest, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for number, row in enumerate(rows):
            ids[number, longest - len(row) + shared :] = torch.from_numpy(row[shared:])
            mask[number, longest - len(row) + shared :] = 1
        return cls(torch.from_numpy(rows[0][None, :shared]), ids, mask)

    def read(self, model: Any, keep: int, **options: Any) -> tuple[Any, Tensor]:
        """Run a causal language model on the batch, on the same device.

        Args:
            model: the model.
            keep: number of last tokens with logits.
            options: of the model's forward pass.

        Returns:
            The model's output, and the mask of all tokens, (rows, shared + longest).
        """
        count, shared = len(self.ids), self.shared.shape[1]
        if shared:
            begun = model(input_ids=self.shared, use_cache=True, logits_to_keep=1)
            options["past_key_values"] = begun.past_key_values
            options["past_key_values"].batch_repeat_interleave(count)
        mask = torch.cat([self.mask.new_ones(count, shared), self.mask], 1)
        places = (mask.cumsum(1) - 1).clamp(min=0)[:, shared:]
        output = model(
            input_ids=self.ids,
            attention_mask=mask,
            position_ids=places,
            logits_to_keep=keep,
            **options,
        )
        return output, mask


def _shared(rows: Sequence[np.ndarray[Any, Any]], apart: int) -> int:
    """Return the length of the common prefix, without the last `apart` tokens."""
    least = max(0, min(map(len, rows)) - apart)
    first = rows[0][:least]
    differing = np.zeros(least, bool)
    for row in rows[1:]:
        differing |= row[:least] != first
    return int(differing.argmax()) if differing.any() else least


def score_answers(model: Any, batch: TokenBatch, answers: Sequence[Sequence[int]]) -> Tensor:
    """Return the log-probability of each answer to each prompt, (prompts, answers).

    Args:
        model: a causal language model.
        batch: prompts, on the model's device.
        answers: token ids of each.
    """
    output, mask = batch.read(model, keep=1, use_cache=True)
    first = output.logits[:, -1].float().log_softmax(-1)
    scores: Tensor = first[:, torch.tensor([answer[0] for answer in answers], device=mask.device)]
    if max(map(len, answers)) > 1:
        scores = scores + _score_rest(model, answers, output.past_key_values, mask)
    return scores


def _score_rest(model: Any, answers: Sequence[Sequence[int]], cache: Any, mask: Tensor) -> Tensor:
    """Return the log-probabilities of all tokens but the first, (prompts, answers)."""
    prompts, count, longest = len(mask), len(answers), max(map(len, answers))
    cache.batch_repeat_interleave(count)
    # Each token is predicted by the one before; padding after short answers is scored and dropped.
    given = torch.zeros(count, longest - 1, dtype=torch.long)
    wanted, real = torch.zeros_like(given), torch.zeros_like(given)
    for row, answer in enumerate(answers):
        steps = len(answer) - 1
        given[row, :steps] = torch.tensor(answer[:-1])
        wanted[row, :steps] = torch.tensor(answer[1:])
        real[row, :steps] = 1
    given, wanted, real = (t.to(mask.device).repeat(prompts, 1) for t in (given, wanted, real))
    before = mask.repeat_interleave(count, 0)
    lengths = before.sum(1, keepdim=True)
    output = model(
        input_ids=given,
        attention_mask=torch.cat([before, torch.ones_like(given)], 1),
        position_ids=lengths + torch.arange(longest - 1, device=mask.device),
        past_key_values=cache,
        use_cache=True,
    )
    logs: Tensor = output.logits.float().log_softmax(-1)
    logs = logs.gather(2, wanted[..., None])[..., 0]
    return (logs * real).sum(1).view(prompts, count)
