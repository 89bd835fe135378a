"""Log-probabilities of labels as a causal language model's whole answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from sentikit import ChatRequest, choose_device, choose_precision

from .loading import load_language_model
from .settings import LocalSettings

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_MUCH = 2**20

Other = TypeVar("Other")


@dataclass(frozen=True)
class ScoringTask:
    """A prompt and the answers to score.

    Attributes:
        prompt: token ids.
        labels: the answers' words.
        answers: token ids of each label, its end-of-turn token included.
    """

    prompt: tuple[int, ...]
    labels: tuple[str, ...]
    answers: tuple[tuple[int, ...], ...]

    @property
    def length(self) -> int:
        """Tokens of the prompt."""
        return len(self.prompt)


class LabelScorer:
    """A loaded model.

    A label's score is the sum of the log-probabilities of all its tokens and of the token that
    ends the answer, so that labels of different lengths, and one that begins like another, compare
    fairly: it is the probability that the whole answer is that label.

    Raises:
        InputError: no such model or device.
        SentikitError: the hub cannot be reached.
    """

    def __init__(self, settings: LocalSettings) -> None:
        self._device = choose_device(settings.device)
        dtype = _DTYPES[choose_precision(settings.precision, self._device)]
        self._model, self._tokenizer = load_language_model(settings, self._device, dtype)
        self._template = settings.template
        self._batch_tokens = settings.batch_tokens
        config = self._model.config.get_text_config()
        self.context = int(getattr(config, "max_position_embeddings", None) or _MUCH)

    def task(self, request: ChatRequest) -> ScoringTask:
        """Tokenize a request."""
        chat = bool(self._tokenizer.chat_template)
        text = self._prompt(request, chat)
        # A template writes the special tokens itself.
        ids = self._tokenizer(text, add_special_tokens=not chat).input_ids
        ending = [self._tokenizer.eos_token_id] if chat else []
        answers = tuple(
            (*self._tokenizer(label, add_special_tokens=False).input_ids, *ending)
            for label in (request.labels if chat else [f" {name}" for name in request.labels])
        )
        return ScoringTask(tuple(ids), request.labels, answers)

    def _prompt(self, request: ChatRequest, chat: bool) -> str:
        if not chat:
            return "\n\n".join(message.content for message in request.messages)
        messages = [{"role": m.role, "content": m.content} for m in request.messages]
        return str(
            self._tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True, **self._template
            )
        )

    def batches(
        self, tasks: Sequence[tuple[ScoringTask, Other]]
    ) -> Iterator[list[tuple[ScoringTask, Other]]]:
        """Yield tasks that are scored together: sorted by length, same labels, bounded tokens."""
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
        """Return label to log-probability for tasks with the same answers."""
        answers = tasks[0].answers
        prompts, mask = self._left_padded([task.prompt for task in tasks])
        first, cache = self._read_prompts(prompts, mask)
        starts = torch.tensor([answer[0] for answer in answers], device=self._device)
        scores = first[:, starts]
        longest = max(len(answer) for answer in answers)
        if longest > 1:
            scores = scores + self._rest(answers, cache, mask, longest)
        return [
            dict(zip(task.labels, row, strict=True))
            for task, row in zip(tasks, scores.double().tolist(), strict=True)
        ]

    def _left_padded(self, prompts: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return ids and mask, (prompts, longest), padded in front so that all end together."""
        longest = max(len(prompt) for prompt in prompts)
        ids = torch.zeros(len(prompts), longest, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, longest - len(prompt) :] = torch.tensor(prompt)
            mask[row, longest - len(prompt) :] = 1
        return ids.to(self._device), mask.to(self._device)

    def _read_prompts(self, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, Any]:
        """Return the log-probabilities of the next token, (prompts, vocabulary), and the cache."""
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        output = self._model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            use_cache=True,
            logits_to_keep=1,
        )
        return output.logits[:, -1].float().log_softmax(-1), output.past_key_values

    def _rest(
        self, answers: Sequence[Sequence[int]], cache: Any, mask: torch.Tensor, longest: int
    ) -> torch.Tensor:
        """Return the log-probabilities of all tokens but the first, (prompts, answers)."""
        prompts, count = len(mask), len(answers)
        cache.batch_repeat_interleave(count)
        # The token before each that is scored; padding behind a short answer is scored and dropped.
        given = torch.zeros(count, longest - 1, dtype=torch.long)
        wanted, real = torch.zeros_like(given), torch.zeros_like(given)
        for row, answer in enumerate(answers):
            steps = len(answer) - 1
            given[row, :steps] = torch.tensor(answer[:-1])
            wanted[row, :steps] = torch.tensor(answer[1:])
            real[row, :steps] = 1
        given, wanted, real = (t.to(self._device).repeat(prompts, 1) for t in (given, wanted, real))
        before = mask.repeat_interleave(count, 0)
        lengths = before.sum(1, keepdim=True)
        output = self._model(
            input_ids=given,
            attention_mask=torch.cat([before, torch.ones_like(given)], 1),
            position_ids=lengths + torch.arange(longest - 1, device=self._device),
            past_key_values=cache,
            use_cache=True,
        )
        logs: torch.Tensor = output.logits.float().log_softmax(-1)
        logs = logs.gather(2, wanted[..., None])[..., 0]
        return (logs * real).sum(1).view(prompts, count)
