"""The fine-tuner ``openai``: supervised jobs at OpenAI or a compatible service.

See https://platform.openai.com/docs/api-reference/fine-tuning.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from sentikit.extension import (
    ComponentSettings,
    FineTunedModel,
    FineTuner,
    FineTuningJob,
    FineTuningLimits,
    FineTuningSession,
)

from .settings import OpenAIFineTuningSettings

if TYPE_CHECKING:
    from .finetuning_job import JobFollower

_FEWEST, _MOST_BYTES = 10, 8 * 10**9
# What "auto" becomes by OpenAI's cookbook (chat fine-tuning, data preparation): three epochs, more
# for few examples, fewer for many; one for the study's 102,097.
_EPOCHS, _FEW, _MANY, _MOST_EPOCHS = 3, 100, 25_000, 25

Result = TypeVar("Result")


class OpenAIFineTuner(FineTuner):
    """A fine-tuner that uploads the files, starts or finds the job, and follows it."""

    Settings = OpenAIFineTuningSettings
    settings: OpenAIFineTuningSettings

    def __init__(self, settings: ComponentSettings) -> None:
        super().__init__(settings)
        self.settings.refuse_secrets()

    @property
    def model(self) -> str:
        return self.settings.model

    @property
    def limits(self) -> FineTuningLimits:
        """What OpenAI's guide to supervised fine-tuning says."""
        return FineTuningLimits(fewest_examples=_FEWEST, most_bytes=_MOST_BYTES)

    def identity(self) -> Mapping[str, Any]:
        """Return the address, the model, and the job's settings."""
        settings = self.settings
        return {
            "url": settings.address,
            "model": settings.model,
            "epochs": settings.epochs,
            "batch_size": settings.batch_size,
            "learning_rate_multiplier": settings.learning_rate_multiplier,
            "seed": settings.seed,
            "suffix": settings.suffix,
        }

    def epochs(self, examples: int) -> int:
        """Return the epochs asked for, or what ``auto`` is expected to become."""
        asked = self.settings.epochs
        if isinstance(asked, int):
            return asked
        if examples * _EPOCHS < _FEW:
            return min(_MOST_EPOCHS, _FEW // max(1, examples))
        return max(1, min(_EPOCHS, _MANY // max(1, examples)))

    def check(self, session: FineTuningSession) -> None:
        """Request the model and the list of jobs, to find missing permissions early."""
        self._do(session, lambda job: job.check())

    def run(self, job: FineTuningJob, session: FineTuningSession) -> FineTunedModel | None:
        return self._do(session, lambda remote: remote.run(job))

    def cancel(self, job: FineTuningJob, session: FineTuningSession) -> None:
        self._do(session, lambda remote: remote.cancel(job))

    def _do(
        self, session: FineTuningSession, work: Callable[[JobFollower], Awaitable[Result]]
    ) -> Result:
        from .connection import Connection
        from .finetuning_job import JobFollower

        async def connected() -> Result:
            connection = Connection(self.settings)
            try:
                return await work(JobFollower(connection, session))
            finally:
                await connection.close()

        return asyncio.run(connected())
