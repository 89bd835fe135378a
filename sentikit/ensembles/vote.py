"""The label that most classifiers give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sentikit.runs.table import Labelling

Ties = Literal["first", "probability"]


@dataclass(frozen=True)
class Vote:
    """How a vote went.

    Attributes:
        labels: class numbers, (rows,); -1 where no member gave a valid answer.
        unanimous: whether all members gave the same valid label, (rows,).
        tied: whether several labels had the most votes, (rows,).
    """

    labels: NDArray[np.int64]
    unanimous: NDArray[np.bool_]
    tied: NDArray[np.bool_]


def vote(members: Sequence[Labelling], classes: int, ties: Ties = "first") -> Vote:
    """Return the label most members give to each row; an invalid answer is no vote.

    Args:
        members: most trusted first.
        classes: how many there are.
        ties: among labels with equally many votes: ``first`` takes the one of the first named
            member that gave one of them, ``probability`` the one with the highest mean
            probability, over the members that know probabilities, and then the first.
    """
    labels = np.stack([member.labels for member in members])
    votes = np.stack([(labels == number).sum(0) for number in range(classes)], axis=1)
    most = votes.max(1)
    leading = (votes == most[:, None]) & (most[:, None] > 0)
    ranking = _order_of_naming(labels, classes)
    if ties == "probability":
        # Probabilities decide; who was named first only where they are equal.
        ranking = _mean_probabilities(members, classes) + 1e-9 * ranking
    chosen = np.where(leading, ranking, -1.0).argmax(1)
    return Vote(
        labels=np.where(most > 0, chosen, -1),
        unanimous=most == len(members),
        tied=leading.sum(1) > 1,
    )


def _order_of_naming(labels: NDArray[np.int64], classes: int) -> NDArray[np.float64]:
    """Rank labels, (rows, classes), below 1: the earlier a member gave one, the higher."""
    members = len(labels)
    ranking = np.zeros((labels.shape[1], classes))
    for position in range(members - 1, -1, -1):
        given = np.flatnonzero(labels[position] >= 0)
        ranking[given, labels[position][given]] = (members - position) / (members + 1)
    return ranking


def _mean_probabilities(members: Sequence[Labelling], classes: int) -> NDArray[np.float64]:
    """Average what the members that know probabilities say, (rows, classes); 0 where none does."""
    total = np.zeros((len(members[0].labels), classes))
    known = np.zeros(len(total))
    for member in members:
        if member.probabilities is not None:
            there = ~np.isnan(member.probabilities).any(1)
            total[there] += member.probabilities[there]
            known += there
    return total / np.maximum(known, 1)[:, None]
