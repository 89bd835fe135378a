"""Inference on a CPU: passes in threads, with the same results whatever their number."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_classifiers import make_classifier
from tiny_models import WORDS
from torch import Tensor, nn

import sentikit
from sentikit.classifiers.encoder_classifier import EncoderClassifier
from sentikit.classifiers.torch_model import TorchPredictor

IDS = [np.full((1, 2), number, np.int64) for number in range(40)]
BATCHES = [(ids, np.ones_like(ids)) for ids in IDS]


class Echo(nn.Module):
    """Returns the first word piece of each text, and notes what it sees of the threads."""

    def __init__(self, parties: int = 1, fails_at: int = -1) -> None:
        super().__init__()
        self.together = threading.Barrier(parties)
        self.fails_at = fails_at
        self.threads: set[int] = set()
        self.computed: list[int] = []

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        number = int(input_ids[0, 0])
        if number < self.together.parties:
            self.together.wait(30)
        if number == self.fails_at:
            raise RuntimeError("no more memory")
        self.threads.add(torch.get_num_threads())
        self.computed.append(number)
        return input_ids[:, :1].float()


def texts(count: int) -> list[str]:
    generator = np.random.default_rng(0)
    return [" ".join(generator.choice(WORDS, size)) for size in generator.integers(1, 60, count)]


def predictor(model: nn.Module) -> TorchPredictor:
    return TorchPredictor(model, torch.device("cpu"), "fp32")


@pytest.mark.parametrize(
    "architecture", ["electra", "bert", "distilbert", "albert", "deberta-v2", "modernbert"]
)
def test_probabilities_are_the_same_to_the_bit_with_any_number_of_threads(
    tmp_path: Path, architecture: str
) -> None:
    folder = make_classifier(tmp_path / "model", architecture=architecture)
    classifier = sentikit.load(folder, device="cpu", precision="fp32")
    labelled, found = texts(400), []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        found.append(classifier.predict_proba(labelled))
    assert np.unique(found[0], axis=0).shape[0] > 300
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])


def test_as_many_passes_run_at_a_time_as_torch_has_threads_each_on_one_of_them() -> None:
    torch.set_num_threads(3)
    model = Echo(parties=3)
    found = predictor(model).logits(BATCHES)
    assert [float(logits[0, 0]) for logits in found] == list(range(40))
    assert model.threads == {1}


def test_batches_are_read_when_a_thread_is_free_for_them() -> None:
    torch.set_num_threads(2)
    model, ahead = Echo(), list[int]()

    def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for number, batch in enumerate(BATCHES):
            ahead.append(number - len(model.computed))
            yield batch

    assert len(predictor(model).logits(batches())) == 40
    assert max(ahead) <= 2


def test_the_number_of_torch_threads_is_restored_in_this_thread_and_in_new_ones() -> None:
    torch.set_num_threads(3)
    predictor(Echo()).logits(BATCHES)
    assert torch.get_num_threads() == 3
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(torch.get_num_threads).result() == 3


def test_an_error_in_one_pass_ends_the_others_and_is_raised() -> None:
    torch.set_num_threads(2)
    model = Echo(parties=2, fails_at=1)
    with pytest.raises(RuntimeError, match="no more memory"):
        predictor(model).logits(BATCHES)
    assert len(model.computed) < 39
    assert torch.get_num_threads() == 2


def test_no_batches_give_no_logits() -> None:
    for threads in (1, 2):
        torch.set_num_threads(threads)
        assert predictor(Echo()).logits([]) == []


def probabilities(classifier: EncoderClassifier, labelled: list[str]) -> np.ndarray:
    return classifier.predict_proba(labelled)


def test_a_forked_process_can_label_texts_after_its_parent_has(tmp_path: Path) -> None:
    folder = make_classifier(tmp_path / "model")
    classifier = sentikit.load(folder, device="cpu", precision="fp32")
    assert isinstance(classifier, EncoderClassifier)
    torch.set_num_threads(2)
    labelled = texts(100)
    expected = classifier.predict_proba(labelled)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        found = pool.apply_async(probabilities, (classifier, labelled)).get(timeout=60)
    assert np.array_equal(found, expected)
