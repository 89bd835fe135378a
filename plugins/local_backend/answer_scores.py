"""Log-probabilities of whole answers behind prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch


def left_padded(rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids and mask, (rows, longest), padded in front so that all end together."""
    longest = max(len(row) for row in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for number, row in enumerate(rows):
        ids[number, longest - len(row) :] = torch.as_tensor(row)
        mask[number, longest - len(row) :] = 1
    return ids, mask


def positions(mask: torch.Tensor) -> torch.Tensor:
    """Return each token's place in its text, both (rows, tokens)."""
    return (mask.cumsum(1) - 1).clamp(min=0)


def score_answers(
    model: Any, ids: torch.Tensor, mask: torch.Tensor, answers: Sequence[Sequence[int]]
) -> torch.Tensor:
    """Return each answer's log-probability behind each prompt, (prompts, answers).

    Args:
        model: a causal language model.
        ids: of the prompts, padded in front, on the model's device.
        mask: 1 for a token, 0 for padding.
        answers: token ids of each.
    """
    output = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions(mask),
        use_cache=True,
        logits_to_keep=1,
    )
    first = output.logits[:, -1].float().log_softmax(-1)
    scores = first[:, torch.tensor([answer[0] for answer in answers], device=ids.device)]
    if max(map(len, answers)) > 1:
        scores = scores + _score_rest(model, answers, output.past_key_values, mask)
    return scores


def _score_rest(
    model: Any, answers: Sequence[Sequence[int]], cache: Any, mask: torch.Tensor
) -> torch.Tensor:
    """Return the log-probabilities of all tokens but the first, (prompts, answers)."""
    prompts, count, longest = len(mask), len(answers), max(map(len, answers))
    cache.batch_repeat_interleave(count)
    # The token before each that is scored; padding behind a short answer is scored and dropped.
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
    logs: torch.Tensor = output.logits.float().log_softmax(-1)
    logs = logs.gather(2, wanted[..., None])[..., 0]
    return (logs * real).sum(1).view(prompts, count)
