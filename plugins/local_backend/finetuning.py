"""The fine-tuner of the backend ``local``: trains a LoRA adapter in this process."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from sentikit import InputError
from sentikit.extension import (
    ComponentSettings,
    FineTunedModel,
    FineTuner,
    FineTuningJob,
    FineTuningLimits,
    FineTuningSession,
    Message,
    TrainingPlace,
    TrainingTask,
    choose_precision,
    fit,
)

from .finetuning_settings import LocalFineTuningSettings

if TYPE_CHECKING:
    from sentikit.extension import Engine

    from .conversation import Conversation
    from .loading import ModelSource

#: The adapter's folder in the run, and the key that is remembered once it is complete.
_MODEL, _LEARNT = "model", "learnt"


class LocalFineTuner(FineTuner):
    """LoRA fine-tuning of an open causal language model, on the CPU or on GPUs."""

    Settings = LocalFineTuningSettings
    settings: LocalFineTuningSettings
    trains_here: ClassVar[bool] = True

    def __init__(self, settings: ComponentSettings) -> None:
        super().__init__(settings)
        self._conversation: tuple[Any, Conversation] | None = None

    @property
    def model(self) -> str:
        """The base model's name."""
        return self.settings.model

    @cached_property
    def limits(self) -> FineTuningLimits:
        """The model's limits."""
        from .loading import context_of, load_config

        return FineTuningLimits(context=context_of(load_config(self._source)))

    def identity(self) -> Mapping[str, Any]:
        """Return the settings that determine the adapter, and a fingerprint of the base model."""
        return {**self.settings.deciding(), "files": self._source.fingerprint()}

    def epochs(self, examples: int) -> int:
        """Return the setting."""
        return self.settings.epochs

    def token_count(self) -> Any:
        """Return a counter with the model's own tokenizer and template."""
        _, conversation = self._speech()

        def count(messages: Sequence[Message]) -> int:
            answer = conversation.answer(messages[-1].content)
            return len(conversation.prompt(messages[:-1])) + len(answer)

        return count

    def check(self, session: FineTuningSession) -> None:
        """Refuse an unsuitable model and a missing package.

        Raises:
            InputError: peft or the model is missing, or it is not a causal language model.
            SentikitError: the hub cannot be reached.
        """
        from .adapters import peft

        peft()
        self._speech()

    def run(self, job: FineTuningJob, session: FineTuningSession) -> FineTunedModel | None:
        """Fine-tune the model, or resume a run that was killed.

        Raises:
            InputError: no validation split, or no such model.
            SentikitError: the disk failed, or the loss is NaN from the beginning.
        """
        assert job.engine is not None
        if job.validation is None:
            raise InputError(
                "The provider 'local' keeps the epoch that is best on validation. Name the split "
                "as finetune.validation, or set dataset.validation_holdout, such as 10%."
            )
        learnt = job.engine.broadcast(session.recall(_LEARNT))
        if learnt is None:
            learnt = self._learn(job, job.validation, job.engine, session)
        if learnt is None:
            return None
        llm = {"template": self.settings.template} if self.settings.template else {}
        return FineTunedModel(Path(_MODEL), llm=llm, metrics=learnt)

    def _learn(
        self, job: FineTuningJob, validation: Path, engine: Engine, session: FineTuningSession
    ) -> dict[str, Any] | None:
        from .adapters import new_adapter, save_adapter
        from .learning import AnswerLoss, AnswerModel, read_conversations
        from .loading import DTYPES, load_model

        tokenizer, conversation = self._speech()
        dtype = DTYPES[choose_precision(self.settings.precision, engine.device)]
        base = load_model(self._source, dtype)
        adapted = new_adapter(base, self._source, self.settings.lora, self.settings.seed)
        task = TrainingTask(
            AnswerModel(adapted, [conversation.answer(label) for label in job.classes]),
            AnswerLoss(),
            read_conversations(job.train, conversation, job.classes, shown=True),
            read_conversations(validation, conversation, job.classes, shown=False),
            job.classes,
        )
        checkpoints = job.path / "checkpoints"
        place = TrainingPlace(engine, checkpoints, job.fingerprint, "finetune")
        state = fit(task, self.settings, place, session)
        if state is None:
            return None
        metric = self.settings.early_stopping.metric
        learnt = {"best_epoch": state.best_epoch, f"validation_{metric}": state.best_value}
        if engine.is_main_process:
            save_adapter(job.path / _MODEL, adapted, tokenizer)
            session.remember(_LEARNT, learnt)
            shutil.rmtree(checkpoints, ignore_errors=True)
        return learnt

    @property
    def _source(self) -> ModelSource:
        from .loading import named_source

        return named_source(self.settings.model, self.settings.revision, "finetune.model")

    def _speech(self) -> tuple[Any, Conversation]:
        """Return the conversation format, loaded once."""
        from .conversation import Conversation, give_plain_template
        from .loading import load_tokenizer

        if self._conversation is None:
            tokenizer = load_tokenizer(self._source)
            give_plain_template(tokenizer)
            self._conversation = tokenizer, Conversation(tokenizer, self.settings.template)
        return self._conversation
