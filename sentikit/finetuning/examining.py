"""Looks at examples as a fine-tuning service would, and says what it would refuse."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sentikit.datasets.examples import canonical_text
from sentikit.errors import InputError
from sentikit.finetuning.fine_tuner import FineTuningLimits
from sentikit.llm.strategy import Message

_ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class LearntExample:
    """One example to learn.

    Attributes:
        id: of the example.
        text: the text itself.
        label: the answer to learn.
        messages: what is asked, then the answer as the assistant's message.
        line: of the file, newline included.
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
    """What one file holds.

    Attributes:
        split: the dataset's split.
        examples: how many.
        bytes: of the file.
        tokens: of all examples, once through.
        longest: tokens of the longest example.
        longest_id: its id.
        labels: how often each label is the answer.
        duplicates: examples whose text stands further up, too.
        contradictions: those of them with another label there.
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
    """Takes a split's examples one after the other; memory grows by a few bytes for each.

    Args:
        split: the dataset's split.
        classes: the labels there may be.
        limits: what the provider refuses.
        context: tokens an example may have, or None.
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
        """Look at one example.

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
        """Return what the service would refuse of the whole file; `fewest` examples are needed."""
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
                f"{self._too_long:,} of {examples:,} examples of split {self.split!r} are over the "
                f"{self.context:,} tokens that the model learns from; the longest, {identifier}, "
                f"has {tokens:,}. Leave them out, or choose another model"
            )
        if most is not None and self._bytes > most:
            found.append(
                f"the split {self.split!r} makes a file of {self._bytes:,} bytes, and the provider "
                f"takes {most:,}. Learn from fewer (dataset.sample)"
            )
        return found

    def shared(self, other: SplitExaminer) -> int:
        """Return how many different texts of this split are in another, too."""
        return len(self._seen.keys() & other._seen.keys())

    def report(self) -> SplitReport:
        """Return what was seen."""
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
    """Say why a service would refuse a conversation, or ""."""
    roles = [message.role for message in messages]
    for message in messages:
        if message.role not in _ROLES:
            return f"the role {message.role!r} is none of {', '.join(_ROLES)}"
        if not message.content.strip():
            return f"the {message.role}'s message is empty"
    if "system" in roles[1:]:
        return "the system message must come first"
    if "user" not in roles:
        return "no user's message is there to answer"
    if roles[-1] != "assistant" or messages[-1].content not in classes:
        return f"the last message must be the assistant's, and one of {', '.join(classes)}"
    return ""
