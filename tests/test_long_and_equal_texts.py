"""Very long texts are cut before they are tokenised; equal texts are computed once."""

from __future__ import annotations

import random
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_models import WORDS, make_tokenizer

import sentikit
from sentikit.classifiers.batches import as_tokenizer, tokenize
from sentikit.classifiers.encoder_classifier import EncoderClassifier

MAX_LENGTH = 64


@pytest.fixture(scope="module", params=["wordpiece", "byte-level", "unigram"])
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A word-piece tokenizer, and two that were trained on words with blanks around them."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    if request.param == "wordpiece":
        folder = tmp_path_factory.mktemp("tokenizer")
        make_tokenizer(folder)
        return AutoTokenizer.from_pretrained(folder)
    texts = [" ".join(random.Random(seed).choices(WORDS, k=30)) for seed in range(200)]
    if request.param == "byte-level":
        built = Tokenizer(models.BPE())
        built.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer: Any = trainers.BpeTrainer(vocab_size=500, initial_alphabet=alphabet)
    else:
        built = Tokenizer(models.Unigram())
        built.pre_tokenizer = pre_tokenizers.Metaspace()
        built.decoder = decoders.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=200, unk_token="<unk>", special_tokens=["<unk>"]
        )
    built.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=built, pad_token="<unk>")


def odd_text(seed: int) -> str:
    """Return words, numbers, line breaks, emoji and long runs of blanks or letters."""
    draw = random.Random(seed)
    kinds = [
        lambda: " ".join(draw.choices(WORDS, k=50)),
        lambda: " " * draw.randrange(1, 4000),
        lambda: draw.choice("aé語😀") * draw.randrange(1, 4000),
        lambda: "\n\n".join(draw.choices(WORDS, k=20)),
        lambda: str(draw.random()),
    ]
    return "".join(draw.choice(kinds)() for _ in range(40))


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_cut_text_has_the_first_word_pieces_of_the_whole_text(tokenizer: Any, side: str) -> None:
    tokenizer.truncation_side = side
    own = as_tokenizer(tokenizer)
    texts = [odd_text(seed) for seed in range(24)]
    assert min(map(len, texts)) > 32 * MAX_LENGTH
    cut = tokenize([texts], own, MAX_LENGTH)
    for number, text in enumerate(texts):
        whole = own.ids([text])[0]
        extra = len(own.ids([""])[0])
        inner = whole[1:-1] if extra else whole
        room = MAX_LENGTH - extra
        wanted = inner[:room] if side == "right" else inner[-room:]
        found = cut.pieces[cut.starts[number] : cut.starts[number + 1]].tolist()
        assert (found[1:-1] if extra else found) == wanted
    assert cut.cut == len(texts)


def test_a_text_of_10_mb_is_tokenised_quickly_in_little_memory(tokenizer: Any) -> None:
    tokenizer.truncation_side = "right"
    text = " ".join(random.Random(0).choices(WORDS, k=2_400_000))
    assert len(text) > 10_000_000
    tokenize([["warm up"]], tokenizer, 512)
    tracemalloc.start()
    begun = time.perf_counter()
    tokenized = tokenize([[text]], tokenizer, 512)
    seconds = time.perf_counter() - begun
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert tokenized.lengths.tolist() == [512]
    assert seconds < 1
    assert peak < 5_000_000


def test_equal_texts_are_computed_once_and_their_labels_written_everywhere(
    trained_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier = sentikit.load(str(trained_run), device="cpu")
    assert isinstance(classifier, EncoderClassifier)
    draw = random.Random(1)
    distinct = [" ".join(draw.choices(WORDS, k=draw.randrange(1, 30))) for _ in range(400)]
    texts = draw.choices(distinct, k=5000)
    expected = dict(zip(distinct, classifier.predict_proba(distinct), strict=True))
    computed: list[str] = []
    own = classifier.logits_of_texts

    def counted(asked: Any, *stopped: Any) -> Any:
        computed.extend(asked)
        return own(asked, *stopped)

    monkeypatch.setattr(classifier, "logits_of_texts", counted)
    found = classifier.predict_proba(texts)
    assert len(computed) == len(set(computed)) == len(set(texts))
    np.testing.assert_allclose(found, [expected[text] for text in texts], atol=1e-6)


def test_the_memory_for_finding_equal_texts_is_bounded(
    trained_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sentikit.classifiers.encoder_classifier._MOST_DISTINCT", 100)
    classifier = sentikit.load(str(trained_run), device="cpu")
    texts = [f"good food number {n}" for n in range(1000)] * 2
    found = classifier.predict_proba(texts)
    assert found.shape == (2000, 3)
    np.testing.assert_allclose(found[:1000], found[1000:], atol=1e-6)
