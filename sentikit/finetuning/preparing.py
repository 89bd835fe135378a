"""Makes the files an LLM learns from: each example's messages, and its gold label as the answer."""

from __future__ import annotations

import itertools
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sentikit.classifiers.classifier import Session
from sentikit.components import Problem, refuse
from sentikit.errors import InputError
from sentikit.files import atomic_writer
from sentikit.finetuning.counting import conversation_counter
from sentikit.finetuning.examining import LearntExample, SplitExaminer, SplitReport
from sentikit.llm.classifier import messages_for, prompt_input, split_context
from sentikit.llm.context import PromptContext, kept_contexts
from sentikit.llm.prices import model_facts
from sentikit.llm.strategy import Message, training_line
from sentikit.registry import Registry
from sentikit.runs.folder import LabelledSplit

if TYPE_CHECKING:
    from sentikit.finetuning.parts import FinetuneParts

#: How many examples are looked at between two notes of it.
_NOTED = 500
#: The files in a run's folder, by what they are for.
FILES = {"train": "train.jsonl", "validation": "validation.jsonl"}


@dataclass(frozen=True)
class PreparedReport:
    """What the examples come to.

    Attributes:
        splits: ``train`` and, where there is one, ``validation``.
        exact: whether tokens were counted by the model's own tokenizer.
        context: tokens an example may have, or None.
        shared: texts that stand in both files.
    """

    splits: dict[str, SplitReport]
    exact: bool
    context: int | None
    shared: int

    @property
    def train(self) -> SplitReport:
        """Of the file to learn from."""
        return self.splits["train"]

    def warnings(self) -> Iterator[str]:
        """Yield what deserves a look, but is not refused."""
        for use, split in self.splits.items():
            absent = [label for label, count in split.labels.items() if not count]
            if absent:
                yield f"{FILES[use]} has no example of {', '.join(absent)}."
            if split.contradictions:
                yield (
                    f"{FILES[use]}: {split.contradictions:,} texts stand there twice with "
                    "different labels."
                )
        if self.shared:
            yield (
                f"{self.shared:,} texts of {FILES['validation']} are in {FILES['train']}, too: its "
                "validation loss will look better than it is."
            )

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def _split(parts: FinetuneParts, use: str, split: str) -> LabelledSplit:
    dataset = parts.dataset
    if split not in dataset.splits:
        none = ", or none with --set finetune.validation=null" if use == "validation" else ""
        raise InputError(
            f"The dataset {dataset.name!r} has no split {split!r}; it has "
            f"{', '.join(dataset.splits)}. Choose one with --set finetune.{use}=SPLIT{none}."
        )
    return LabelledSplit(dataset.split(split), dataset.scheme.classes, dataset.name, split)


class Preparation:
    """A recipe's examples, turned into messages whenever they are gone through.

    Args:
        parts: of the recipe.
        registry: where to look for parts.
        keep: a folder that holds what an encoder said, of a run that is resumed; None asks it.

    Attributes:
        advance: told how many examples were looked at, an encoder's look counted, since the last
            call.
    """

    def __init__(
        self,
        parts: FinetuneParts,
        registry: Registry,
        keep: Path | None = None,
    ) -> None:
        self._parts, self._registry = parts, registry
        self._keep = keep or _passing_folder(self)
        self.advance: Callable[[int], object] = lambda examples: None
        self._splits = {
            use: _split(parts, use, split) for use, split in zip(FILES, parts.splits, strict=False)
        }

    @property
    def splits(self) -> dict[str, LabelledSplit]:
        """The examples by what they are for."""
        return self._splits

    @property
    def looks(self) -> int:
        """How many examples there are to look at, an encoder's look counted."""
        encoder = self._parts.strategy.needs().encoder
        return (1 + encoder) * sum(len(split.examples) for split in self._splits.values())

    @cached_property
    def context(self) -> int | None:
        """Tokens an example may have: as the recipe says, the provider, or the table of models."""
        facts = model_facts(self._parts.fine_tuner.model)
        known = self._parts.options.context or self._parts.fine_tuner.limits.context
        return known or facts.training_context or facts.context

    @cached_property
    def report(self) -> PreparedReport:
        """What the examples come to; nothing is written.

        Raises:
            InputError: the provider would refuse them; all that is wrong with a file at once.
            SentikitError: the strategy fails.
        """
        limits = self._parts.fine_tuner.limits
        classes = self._parts.dataset.scheme.classes
        examiners = {}
        for use, split in zip(FILES, self._parts.splits, strict=False):
            examiners[use] = SplitExaminer(split, classes, limits, self.context)
            for number, example in enumerate(self.examples(use), 1):
                examiners[use].add(example)
                if number % _NOTED == 0:
                    self.advance(_NOTED)
        self._refuse(examiners)
        shared = 0
        if "validation" in examiners:
            shared = examiners["train"].shared(examiners["validation"])
        return PreparedReport(
            {use: examiner.report() for use, examiner in examiners.items()},
            self._counter.exact,
            self.context,
            shared,
        )

    def _refuse(self, examiners: dict[str, SplitExaminer]) -> None:
        fewest = self._parts.fine_tuner.limits.fewest_examples
        problems = []
        for use, examiner in examiners.items():
            problems += examiner.problems(fewest if use == "train" else 1)
        refuse(Problem((), f"{text}. Nothing was uploaded or trained.") for text in problems)

    @cached_property
    def _counter(self) -> Any:
        return conversation_counter(self._parts.fine_tuner)

    def examples(self, use: str) -> Iterator[LearntExample]:
        """Yield the examples of ``train`` or ``validation`` in order, made as they are asked for.

        Raises:
            SentikitError: the strategy fails; names the row.
        """
        parts, split, row = self._parts, self._splits[use], 0
        contexts = self._contexts(use)
        for batch in split.examples.batches():
            columns = (batch["id"], batch["text"], batch["label"])
            for identifier, text, label in zip(*columns, strict=True):
                asked = messages_for(parts, prompt_input(text, split.classes, next(contexts)), row)
                messages = (*asked, Message("assistant", label))
                line = training_line(asked, label)
                tokens = self._counter.count(messages)
                yield LearntExample(identifier, text, label, messages, line, tokens)
                row += 1

    def _contexts(self, use: str) -> Iterator[PromptContext]:
        """Return what the prompts of a split show, computed once and kept."""
        if not self._parts.strategy.needs().encoder:
            return itertools.repeat(PromptContext())
        split = self._splits[use]
        strategy = self._parts.recipe.values.get("strategy")
        identity = [split.examples.fingerprint(), split.classes, strategy]
        return kept_contexts(self._keep / _kept(use), identity, lambda: self._compute(use))

    def _compute(self, use: str) -> Iterator[PromptContext]:
        parts = self._parts.of_split(self._parts.splits[list(FILES).index(use)])
        try:
            source = split_context(parts, self._splits[use], self._registry)
        except InputError as error:
            raise InputError(f"{parts.dataset.name}/{parts.split}: {error.message}") from error
        source.advance = lambda texts: self.advance(texts)
        texts = self._splits[use].examples.values("text")
        for _, context in source.stream(texts, Session()):
            yield context

    def write(self, folder: Path) -> dict[str, Path]:
        """Write the files and return them by use; each is there whole or not at all.

        What an encoder said goes with them, so that a resumed run need not ask it again.

        Raises:
            InputError: the provider would refuse them; nothing is written.
        """
        assert self.report
        written = {}
        for use in self._splits:
            written[use] = folder / FILES[use]
            with atomic_writer(written[use]) as stream:
                for example in self.examples(use):
                    stream.write(example.line)
        for use in self._splits:
            said = self._keep / _kept(use)
            if said.is_file() and not (folder / said.name).exists():
                with atomic_writer(folder / said.name, "wb") as stream:
                    stream.write(said.read_bytes())
        return written


def _kept(use: str) -> str:
    """Return the name of the file that keeps what the prompts of a split show."""
    return f"context-{use}.jsonl"


def _passing_folder(owner: object) -> Path:
    """Return a temporary folder that goes when its owner goes."""
    folder = Path(tempfile.mkdtemp(prefix="sentikit-"))
    weakref.finalize(owner, shutil.rmtree, folder, ignore_errors=True)
    return folder
