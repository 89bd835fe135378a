"""The backend ``local``: scores labels with an open causal language model in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, ClassVar

from sentikit.extension import (
    Answer,
    BackendSession,
    ChatRequest,
    ComponentSettings,
    LLMBackend,
    RejectedError,
    Usage,
)

from .settings import LocalSettings

if TYPE_CHECKING:
    from .scoring import LabelScorer, ScoringTask


class LocalBackend(LLMBackend):
    """A backend that answers with the label of the highest log-probability.

    The answer is always one of the labels, with probabilities. Calls that wait at the same time are
    scored together, in batches of similar length.
    """

    Settings = LocalSettings
    settings: LocalSettings
    most_in_flight: ClassVar[int | None] = 128
    in_process: ClassVar[bool] = True
    writes_text: ClassVar[bool] = False
    fine_tuner: ClassVar[str] = f"{__package__}.finetuning:LocalFineTuner"

    def __init__(self, settings: ComponentSettings) -> None:
        super().__init__(settings)
        self._scorer: LabelScorer | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._waiting: list[tuple[ScoringTask, asyncio.Future[dict[str, float]]]] = []
        self._running: asyncio.Task[None] | None = None

    @property
    def model(self) -> str:
        """The model's name."""
        return self.settings.model

    @property
    def billed(self) -> bool:
        """Whether calls cost money: never."""
        return False

    async def open(self, session: BackendSession) -> None:
        """Load the model, once."""
        from .scoring import LabelScorer

        self._thread = ThreadPoolExecutor(1, "sentikit-local-llm")
        if self._scorer is None:
            session.say(f"Loading {self.model} …")
            loop = asyncio.get_running_loop()
            self._scorer = await loop.run_in_executor(self._thread, LabelScorer, self.settings)

    async def close(self) -> None:
        """End the thread; the model is freed with the backend."""
        if self._thread is not None:
            self._thread.shutdown(wait=True, cancel_futures=True)
            self._thread = None

    def canonical(self, request: ChatRequest) -> Mapping[str, Any]:
        """Return the model, with a fingerprint of its files, and the messages and labels."""
        from .adapters import model_fingerprint

        settings = self.settings
        return {
            "local": settings.model,
            "files": model_fingerprint(settings),
            "template": settings.template,
            "messages": [[message.role, message.content] for message in request.messages],
            "labels": list(request.labels),
        }

    async def ask(self, request: ChatRequest) -> Answer:
        """Score the labels, together with other waiting calls."""
        assert self._scorer is not None
        task = self._scorer.task(request)
        answer = max(map(len, task.answers))
        # The last token of an answer is scored but not read.
        if task.length + answer - 1 > self._scorer.context:
            raise RejectedError(
                f"The prompt has {task.length:,} tokens and an answer {answer:,}; the context of "
                f"{self.model} holds {self._scorer.context:,}."
            )
        future: asyncio.Future[dict[str, float]] = asyncio.get_running_loop().create_future()
        self._waiting.append((task, future))
        if self._running is None:
            self._running = asyncio.create_task(self._score_waiting())
        logs = await future
        best = max(request.labels, key=lambda label: logs[label])
        usage = Usage(prompt=task.length)
        return Answer(best, usage, logs, model=self.model, raw=best)

    async def _score_waiting(self) -> None:
        """Score waiting calls until none is left."""
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                # Let simultaneous calls arrive first.
                await asyncio.sleep(0)
                waiting, self._waiting = self._waiting, []
                await loop.run_in_executor(self._thread, self._score, waiting, loop)
        finally:
            self._running = None

    def _score(
        self,
        waiting: list[tuple[ScoringTask, asyncio.Future[dict[str, float]]]],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """Score tasks in the model's thread, and deliver the results batch by batch."""
        assert self._scorer is not None
        waiting.sort(key=lambda pair: pair[0].length)
        try:
            for batch in self._scorer.batches(waiting):
                results = self._scorer.score([task for task, _ in batch])
                for (_, future), logs in zip(batch, results, strict=True):
                    loop.call_soon_threadsafe(_resolve, future, logs)
        except Exception as error:
            for _, future in waiting:
                loop.call_soon_threadsafe(_fail, future, error)


def _resolve(future: asyncio.Future[dict[str, float]], logs: dict[str, float]) -> None:
    if not future.done():
        future.set_result(logs)


def _fail(future: asyncio.Future[dict[str, float]], error: Exception) -> None:
    from sentikit.extension import FatalError

    if not future.done():
        reason = " ".join(str(error).split())[:300]
        future.set_exception(
            FatalError(f"The local model failed: {type(error).__name__}: {reason}")
        )
