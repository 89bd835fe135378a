"""Training examples: counting, checking and writing of conversations."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sentikit import InputError
from sentikit.extension import (
    FineTuner,
    FineTuningLimits,
    LabelledSplit,
    Message,
    TokenCounter,
    atomic_writer,
    canonical_text,
    model_facts,
)

if TYPE_CHECKING:
    from sentikit.extension import FinetuneComponents


# OpenAI's chat template adds three tokens and the role to each message. With these, the counts
# agree with the bills of Beno 2025 (appendix C): 54.2, 108.2 and 129.2 tokens per example.
_PER_MESSAGE = 4


def training_line(messages: Sequence[Message], label: str) -> str:
    """Return one line of JSON Lines, newline included: the messages, then the label as answer.

    The format is that of https://platform.openai.com/docs/guides/supervised-fine-tuning; characters
    outside ASCII are escaped, as in the study's files.
    """
    conversation = [message.to_json() for message in [*messages, Message("assistant", label)]]
    return json.dumps({"messages": conversation}) + "\n"


@dataclass(frozen=True)
class ConversationCounter:
    """A counter of a conversation's tokens, answer included.

    Attributes:
        count: returns the number of tokens.
        exact: whether the model's own tokenizer counts.
    """

    count: Callable[[Sequence[Message]], int]
    exact: bool


def conversation_counter(fine_tuner: FineTuner) -> ConversationCounter:
    """Return a fine-tuner's own counter, or one with the tokenizer of the table of models."""
    own = fine_tuner.token_count()
    if own is not None:
        return ConversationCounter(own, True)
    counter = TokenCounter(model_facts(fine_tuner.model).tokenizer)

    def count(messages: Sequence[Message]) -> int:
        return sum(counter.count(message.content) + _PER_MESSAGE for message in messages)

    return ConversationCounter(count, counter.exact)


_ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class LearntExample:
    """A training example.

    Attributes:
        id: of the example.
        text: of the example.
        label: the answer to learn.
        messages: the prompt, then the answer as the assistant's message.
        line: in the file, newline included.
        tokens: of the whole conversation.
    """

    id: str
    text: str
    label: str
    messages: tuple[Message, ...]
    line: str
    tokens: int


@dataclass(frozen=True)
class SplitReport:
    """The content of a file of examples.

    Attributes:
        split: the dataset's split.
        examples: their number.
        bytes: of the file.
        tokens: of all examples, in one epoch.
        longest: tokens of the longest example.
        longest_id: its id.
        labels: number of examples by label.
        duplicates: examples that repeat an earlier text.
        contradictions: duplicates with a different label.
        digest: SHA-256 of the file.
    """

    split: str
    examples: int
    bytes: int
    tokens: int
    longest: int
    longest_id: str
    labels: dict[str, int]
    duplicates: int
    contradictions: int
    digest: str


@dataclass
class SplitExaminer:
    """A check of a split's examples, one by one; memory grows by a few bytes for each.

    Args:
        split: the dataset's split.
        classes: the possible labels.
        limits: what the provider refuses.
        context: most tokens of an example, or None.
    """

    split: str
    classes: tuple[str, ...]
    limits: FineTuningLimits
    context: int | None
    _labels: Counter[str] = field(default_factory=Counter)
    _seen: dict[bytes, str] = field(default_factory=dict)
    _digest: Any = field(default_factory=hashlib.sha256)
    _bytes: int = 0
    _tokens: int = 0
    _longest: tuple[int, str] = (0, "")
    _too_long: int = 0
    _duplicates: int = 0
    _contradictions: int = 0

    def add(self, example: LearntExample) -> None:
        """Check one example.

        Raises:
            InputError: the service would refuse it, for its roles or for an empty message.
        """
        problem = _misfit(example.messages, self.classes)
        if problem:
            row = self._labels.total() + 1
            raise InputError(
                f"Example {row} of split {self.split!r} (id {example.id}): {problem}. Nothing was "
                "uploaded or trained."
            )
        encoded = example.line.encode("utf-8", "surrogatepass")
        self._digest.update(encoded)
        self._bytes += len(encoded)
        self._tokens += example.tokens
        self._longest = max(self._longest, (example.tokens, example.id), key=lambda pair: pair[0])
        self._too_long += self.context is not None and example.tokens > self.context
        self._labels[example.label] += 1
        self._compare(_key(example.text), example.label)

    def _compare(self, key: bytes, label: str) -> None:
        before = self._seen.get(key)
        if before is None:
            self._seen[key] = label
            return
        self._duplicates += 1
        self._contradictions += before != label

    def problems(self, fewest: int) -> list[str]:
        """Return what the service would refuse about the file; `fewest` examples are needed."""
        found = []
        examples, most = self._labels.total(), self.limits.most_bytes
        if examples < fewest:
            found.append(
                f"the split {self.split!r} has {examples} examples and at least {fewest} are "
                "needed. Take a larger split or sample (dataset.sample)"
            )
        if self._too_long:
            tokens, identifier = self._longest
            found.append(
                f"{self._too_long:,} of {examples:,} examples of split {self.split!r} exceed the "
                f"{self.context:,} tokens that the model is trained on; the longest, {identifier}, "
                f"has {tokens:,}. Leave them out, or choose another model"
            )
        if most is not None and self._bytes > most:
            found.append(
                f"the file of split {self.split!r} has {self._bytes:,} bytes, and the provider "
                f"accepts at most {most:,}. Use fewer examples (dataset.sample)"
            )
        return found

    def shared(self, other: SplitExaminer) -> int:
        """Return the number of different texts that another split has too."""
        return len(self._seen.keys() & other._seen.keys())

    def report(self) -> SplitReport:
        """Return the report."""
        return SplitReport(
            split=self.split,
            examples=self._labels.total(),
            bytes=self._bytes,
            tokens=self._tokens,
            longest=self._longest[0],
            longest_id=self._longest[1],
            labels={name: self._labels[name] for name in self.classes},
            duplicates=self._duplicates,
            contradictions=self._contradictions,
            digest=self._digest.hexdigest(),
        )


def _key(text: str) -> bytes:
    canonical = canonical_text(text).encode("utf-8", "surrogatepass")
    return hashlib.sha256(canonical).digest()[:12]


def _misfit(messages: Sequence[Message], classes: Sequence[str]) -> str:
    """Return why a service would refuse a conversation, or ""."""
    roles = [message.role for message in messages]
    for message in messages:
        if message.role not in _ROLES:
            return f"the role {message.role!r} is not one of {', '.join(_ROLES)}"
        if not message.content.strip():
            return f"the {message.role} message is empty"
    if "system" in roles[1:]:
        return "the system message must come first"
    if "user" not in roles:
        return "there is no user message to answer"
    if roles[-1] != "assistant" or messages[-1].content not in classes:
        return f"the last message must be the assistant's, and one of {', '.join(classes)}"
    return ""


#: Number of examples between two updates of the progress.
_NOTED = 500
#: The files in a run's folder, by use.
FILES = {"train": "train.jsonl", "validation": "validation.jsonl"}


@dataclass(frozen=True)
class PreparedReport:
    """The report about all files.

    Attributes:
        splits: ``train`` and, if given, ``validation``.
        exact: whether tokens were counted by the model's own tokenizer.
        context: most tokens of an example, or None.
        shared: texts in both files.
    """

    splits: dict[str, SplitReport]
    exact: bool
    context: int | None
    shared: int

    @property
    def train(self) -> SplitReport:
        """The report about the training file."""
        return self.splits["train"]

    def warnings(self) -> Iterator[str]:
        """Yield warnings about what is suspicious but accepted."""
        for use, split in self.splits.items():
            absent = [label for label, count in split.labels.items() if not count]
            if absent:
                yield f"{FILES[use]} has no example of {', '.join(absent)}."
            if split.contradictions:
                yield (
                    f"{FILES[use]}: {split.contradictions:,} texts occur twice, with "
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


class Preparation:
    """A recipe's examples, converted to messages in each pass.

    Args:
        components: of the recipe.
        keep: the folder of a resumed run with an encoder's predictions; None queries it.

    Attributes:
        splits: the examples by use, ``train`` or ``validation``.
        advance: called with the number of examples processed since the last call, also by an
            encoder.
    """

    def __init__(self, components: FinetuneComponents, keep: Path | None = None) -> None:
        self._components = components
        self._keep = keep or _passing_folder(self)
        self.advance: Callable[[int], object] = lambda examples: None
        self.splits = {"train": _split(components, "train", components.split)}
        if components.options.validation:
            self.splits["validation"] = _split(
                components, "validation", components.options.validation
            )

    @property
    def looks(self) -> int:
        """The number of examples to process, those of an encoder included."""
        encoder = self._components.strategy.needs().encoder
        return (1 + encoder) * sum(len(split.examples) for split in self.splits.values())

    @cached_property
    def context(self) -> int | None:
        """Most tokens of an example, according to recipe, provider or table of models."""
        facts = model_facts(self._components.fine_tuner.model)
        known = self._components.options.context or self._components.fine_tuner.limits.context
        return known or facts.training_context or facts.context

    @cached_property
    def report(self) -> PreparedReport:
        """The report about the examples; nothing is written.

        Raises:
            InputError: the provider would refuse them; the message lists all problems of a file.
            SentikitError: the strategy fails.
        """
        limits = self._components.fine_tuner.limits
        classes = self._components.dataset.scheme.classes
        examiners = {}
        for use, split in self.splits.items():
            examiners[use] = SplitExaminer(split.split, classes, limits, self.context)
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
        fewest = self._components.fine_tuner.limits.fewest_examples
        problems = []
        for use, examiner in examiners.items():
            problems += examiner.problems(fewest if use == "train" else 1)
        lines = [f"{text}. Nothing was uploaded or trained." for text in problems]
        if len(lines) == 1:
            raise InputError(lines[0])
        if lines:
            raise InputError("\n".join([f"{len(lines)} problems:", *(f"  {at}" for at in lines)]))

    @cached_property
    def _counter(self) -> Any:
        return conversation_counter(self._components.fine_tuner)

    def examples(self, use: str) -> Iterator[LearntExample]:
        """Yield the examples of ``train`` or ``validation`` in order, made one by one.

        Raises:
            SentikitError: the strategy fails; names the row.
        """
        found = self._components.conversations(
            self.splits[use], self._keep / _kept(use), lambda texts: self.advance(texts)
        )
        for example, label, asked in found:
            messages = (*asked, Message("assistant", label))
            line = training_line(asked, label)
            tokens = self._counter.count(messages)
            yield LearntExample(example.id, example.text, label, messages, line, tokens)

    def write(self, folder: Path) -> dict[str, Path]:
        """Write the files and return them by use; each appears complete or not at all.

        An encoder's predictions are stored beside them, for a resumed run.

        Raises:
            InputError: the provider would refuse them; nothing is written.
        """
        assert self.report
        written = {}
        for use in self.splits:
            written[use] = folder / FILES[use]
            with atomic_writer(written[use]) as stream:
                for example in self.examples(use):
                    stream.write(example.line)
        for use in self.splits:
            kept = self._keep / _kept(use)
            if kept.is_file() and not (folder / kept.name).exists():
                with atomic_writer(folder / kept.name, "wb") as stream:
                    stream.write(kept.read_bytes())
        return written


def _split(components: FinetuneComponents, use: str, split: str) -> LabelledSplit:
    dataset = components.dataset
    if split not in dataset.splits:
        none = ", or none with --set finetune.validation=null" if use == "validation" else ""
        raise InputError(
            f"The dataset {dataset.name!r} has no split {split!r}; it has "
            f"{', '.join(dataset.splits)}. Choose one with --set finetune.{use}=SPLIT{none}."
        )
    classes, ordered = dataset.scheme.classes, dataset.scheme.ordered
    return LabelledSplit(dataset.split(split), classes, dataset.name, split, ordered)


def _kept(use: str) -> str:
    """Return the name of the file with the prompt context of a split."""
    return f"context-{use}.jsonl"


def _passing_folder(owner: object) -> Path:
    """Return a temporary folder that is removed with its owner."""
    folder = Path(tempfile.mkdtemp(prefix="sentikit-"))
    weakref.finalize(owner, shutil.rmtree, folder, ignore_errors=True)
    return folder
