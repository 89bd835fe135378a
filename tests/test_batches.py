"""Batches: every text once, of similar length, the same on any machine and for any sharing."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sentikit.classifiers.batches import batches_by_length
from sentikit.training.data import plan_epoch, share, steps_per_epoch

lengths_of = st.lists(st.integers(2, 200), min_size=1, max_size=300).map(np.array)


@given(lengths_of, st.integers(1, 40), st.integers(0, 5), st.integers(0, 3))
def test_an_epoch_contains_every_text_once(
    lengths: np.ndarray, size: int, seed: int, epoch: int
) -> None:
    batches = plan_epoch(lengths, size, seed, epoch)
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))
    assert len(batches) == steps_per_epoch(len(lengths), size)
    assert all(len(batch) <= size for batch in batches)
    again = plan_epoch(lengths, size, seed, epoch)
    assert all((a == b).all() for a, b in zip(batches, again, strict=True))


def test_every_epoch_and_seed_has_its_own_order() -> None:
    lengths = np.random.default_rng(0).integers(3, 60, 500)
    orders = {
        tuple(np.concatenate(plan_epoch(lengths, 8, seed, epoch)))
        for seed in (0, 1)
        for epoch in (0, 1)
    }
    assert len(orders) == 4


def test_bucketing_by_length_saves_padding_compared_with_random_order() -> None:
    lengths = np.random.default_rng(0).gamma(3, 7, 12_000).astype(int) + 3
    batches = plan_epoch(lengths, 32, 0, 0)

    def efficiency(plan: list[np.ndarray]) -> float:
        return float(lengths.sum() / sum(len(b) * lengths[b].max() for b in plan))

    random = np.array_split(np.random.default_rng(1).permutation(len(lengths)), len(batches))
    assert efficiency(batches) > 0.9
    assert efficiency(random) < 0.6


@settings(max_examples=200)
@given(lengths_of, st.integers(1, 5), st.integers(1, 9), st.integers(1, 400))
def test_processes_split_each_batch_without_overlap(
    lengths: np.ndarray, processes: int, micro: int, tokens: int
) -> None:
    batch = np.arange(len(lengths))
    shares = [share(batch, lengths, rank, processes, micro, tokens) for rank in range(processes)]
    assert len({len(pieces) for pieces in shares}) == 1
    counted = [
        row
        for pieces in shares
        for piece in pieces
        for row, weight in zip(piece.rows, piece.weights, strict=True)
        if weight
    ]
    assert sorted(counted) == batch.tolist()
    for piece in (piece for pieces in shares for piece in pieces):
        assert 0 < len(piece.rows) <= micro
        assert len(piece.rows) == 1 or len(piece.rows) * lengths[piece.rows].max() <= tokens


@given(lengths_of, st.integers(1, 500), st.integers(1, 64))
def test_inference_batches_respect_both_limits(
    lengths: np.ndarray, most_tokens: int, most_rows: int
) -> None:
    batches = list(batches_by_length(lengths, most_tokens, most_rows))
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) <= most_rows
        assert len(batch) == 1 or len(batch) * lengths[batch].max() <= most_tokens


@given(lengths_of, st.sampled_from([0.0, 0.1, 0.5]), st.sampled_from([0, 32]))
def test_inference_batches_pad_no_further_than_allowed(
    lengths: np.ndarray, most_padding: float, spare: int
) -> None:
    batches = list(batches_by_length(lengths, 2048, 64, most_padding, spare))
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))
    for batch in batches:
        shortest, longest = lengths[batch].min(), lengths[batch].max()
        padding = (longest - lengths[batch]).sum()
        assert padding <= spare or shortest >= longest * (1 - most_padding) - 1e-9


def test_a_few_texts_of_several_lengths_share_passes_where_little_is_padded() -> None:
    lengths = np.array([30, 26, 22, 21, 20, 12, 10, 9])
    assert len(list(batches_by_length(lengths, 512, 32, 0.1))) == 5
    assert [lengths[batch].tolist() for batch in batches_by_length(lengths, 512, 32, 0.1, 32)] == [
        [30, 26, 22, 21, 20],
        [12, 10, 9],
    ]
