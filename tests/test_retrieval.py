"""Retrieval of examples: the most similar labelled texts, never one that reveals the label."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llm_fixtures import serving
from prompt_runs import make_components, prompt_inputs, run_prompts

import sentikit
from sentikit import Examples, InputError
from sentikit.extension import ExamplesNeeded
from sentikit.llm.context import load_encoder
from sentikit.llm.retrieval import Pool, Retriever, choose_examples, embed
from sentikit.llm.strategy import PromptInput
from sentikit.registry import default_registry

CLASSES = ("negative", "neutral", "positive")
DEMO = {"dataset": {"name": "demo"}, "split": "train"}
LLM = {"backend": "replay", "run": "unused.csv"}


def unit(rows: Any) -> Any:
    vectors = np.asarray(rows, np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def random_pool(size: int, needed: ExamplesNeeded) -> tuple[Pool, Any]:
    generator = np.random.default_rng(0)
    labels = [CLASSES[number] for number in generator.integers(0, 3, size)]
    texts = [f"text {number}" for number in range(size)]
    return Pool(texts, labels, needed, CLASSES), unit(generator.normal(size=(size, 8)))


def test_the_nearest_examples_come_first() -> None:
    pool, embeddings = random_pool(200, ExamplesNeeded(5))
    queries = unit(np.random.default_rng(1).normal(size=(50, 8)))
    asked = [f"query {number}" for number in range(50)]
    found = pool.nearest(embeddings, queries, asked)
    expected = np.argsort(-(queries @ embeddings.T), axis=1)[:, :5]
    np.testing.assert_array_equal(found, expected)


def test_balanced_examples_come_class_by_class() -> None:
    pool, embeddings = random_pool(200, ExamplesNeeded(2, balanced=True))
    queries = unit(np.random.default_rng(1).normal(size=(20, 8)))
    found = pool.nearest(embeddings, queries, ["?"] * 20)
    assert found.shape == (20, 6)
    similarities = queries @ embeddings.T
    for row, shown in enumerate(found):
        labels = [pool.labels[number] for number in shown]
        assert labels == ["negative"] * 2 + ["neutral"] * 2 + ["positive"] * 2
        for name, start in zip(CLASSES, (0, 2, 4), strict=True):
            group = [n for n, label in enumerate(pool.labels) if label == name]
            best = sorted(group, key=lambda n: -similarities[row, n])[:2]
            assert shown[start : start + 2].tolist() == best


def test_a_text_never_retrieves_itself() -> None:
    pool, embeddings = random_pool(30, ExamplesNeeded(3))
    found = pool.nearest(embeddings, embeddings[:2], [" Text  0", "text 1"])
    assert 0 not in found[0]
    assert 1 not in found[1]


def test_block_sizes_do_not_change_retrieval(monkeypatch: pytest.MonkeyPatch) -> None:
    pool, embeddings = random_pool(100, ExamplesNeeded(4))
    queries, asked = embeddings[::-1].copy(), pool.texts[::-1]
    whole = pool.nearest(embeddings, queries, asked)
    monkeypatch.setattr("sentikit.llm.retrieval._BLOCK", 700)
    np.testing.assert_array_equal(pool.nearest(embeddings, queries, asked), whole)


def test_equally_near_texts_keep_their_order() -> None:
    pool = Pool(["a", "b", "c"], ["neutral"] * 3, ExamplesNeeded(2), CLASSES)
    found = pool.nearest(unit([[1, 0], [1, 0], [1, 0]]), unit([[1, 0]]), ["?"])
    assert found.tolist() == [[0, 1]]


def test_ties_for_the_last_place_go_to_the_first_text() -> None:
    texts = [f"text {number}" for number in range(500)]
    vectors = unit([[1, 2]] * 499 + [[1, 1]])[np.random.default_rng(0).permutation(500)]
    pool = Pool(texts, ["neutral"] * 500, ExamplesNeeded(4), CLASSES)
    found = pool.nearest(vectors, unit([[1, 1]]), ["?"])
    best = np.argsort(-(unit([[1, 1]]) @ vectors.T), axis=1, kind="stable")[:, :4]
    assert found.tolist() == best.tolist()


def test_a_pool_too_small_is_refused() -> None:
    labels = ["neutral", "positive"]
    with pytest.raises(InputError, match=r"shows 2 examples, so it needs 3 .*; there are 2"):
        Pool(["a", "b"], labels, ExamplesNeeded(2), CLASSES)
    with pytest.raises(InputError, match=r"1 examples of negative, so it needs 2 .*are 0"):
        Pool(["a", "b"], labels, ExamplesNeeded(1, balanced=True), CLASSES)


def test_no_evaluated_text_and_no_text_twice_is_retrieved() -> None:
    candidates = Examples.from_columns(
        ["fine", "Evaluated", "new", "NEW ", "unlabelled"],
        ["neutral", "positive", "negative", "negative", None],
    )
    evaluated = Examples.from_columns(["evaluated "])
    chosen = choose_examples(candidates, evaluated, "all", 0, "demo/validation")
    assert chosen.texts == ["fine", "new"]
    with pytest.raises(InputError, match="pool is 3, but demo/validation has 2 labelled texts"):
        choose_examples(candidates, evaluated, 3, 0, "demo/validation")


def test_a_drawn_pool_depends_only_on_its_seed() -> None:
    candidates = Examples.from_columns([f"t{n}" for n in range(100)], ["neutral"] * 100)
    nothing = Examples.from_columns([])
    first = choose_examples(candidates, nothing, 30, 42, "x").texts
    assert len(set(first)) == 30
    assert choose_examples(candidates, nothing, 30, 42, "x").texts == first
    assert choose_examples(candidates, nothing, 30, 43, "x").texts != first


def dataset(reviews: Path) -> dict[str, Any]:
    paths = {split: f"{reviews}/{split}.csv" for split in ("train", "validation", "test")}
    return {"name": "files", **paths}


def given_to(reviews: Path, **strategy: Any) -> list[PromptInput]:
    return prompt_inputs(make_components(dataset=dataset(reviews), llm=LLM, strategy=strategy))


def examples_of(reviews: Path, **strategy: Any) -> set[str]:
    components = make_components(dataset=dataset(reviews), llm=LLM, strategy=strategy)
    encoder = load_encoder(strategy["encoder"], default_registry())
    return set(Retriever(encoder, "own", components).pool.texts)


def test_one_encoder_pass_retrieves_examples_and_predicts(trained_run: Path, reviews: Path) -> None:
    given = given_to(reviews, name="all", encoder=str(trained_run), k=3, examples=DEMO)[0]
    assert len(given.examples) == 3
    assert given.adviser_prediction is not None
    assert given.adviser_prediction.probabilities is not None
    found = examples_of(reviews, name="all", encoder=str(trained_run), examples=DEMO)
    drawn = examples_of(
        reviews, name="all", encoder=str(trained_run), examples={**DEMO, "pool": 50, "seed": 7}
    )
    assert len(drawn) == 50
    assert drawn < found


def test_embeddings_are_mean_pooled_last_states(trained_run: Path) -> None:
    import torch

    classifier = sentikit.load(trained_run, device="cpu")
    texts = ["the film was great", "the food was very bad and again and again", "it is here"]
    reading = embed(classifier, texts)
    for text, embedding in zip(texts, reading.embeddings, strict=True):
        inputs = classifier.tokenizer(text, return_tensors="pt")
        with torch.inference_mode():
            states = classifier.predictor.model.encoder(  # type: ignore[attr-defined]
                input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]
            ).last_hidden_state
        mean = states[0].mean(0).numpy()
        np.testing.assert_allclose(embedding, mean / np.linalg.norm(mean), atol=1e-5)
    plain = classifier.predict_proba(texts)
    np.testing.assert_allclose(reading.probabilities, plain, atol=1e-6)


def test_examples_may_come_from_another_dataset_with_a_recorded_adviser(
    trained_run: Path, reviews: Path
) -> None:
    test = sentikit.open_dataset(dataset(reviews)).split("test")
    lines = ["text,prediction", *(f"{text},neutral" for text in test.texts)]
    Path("adviser.csv").write_text("\n".join(lines) + "\n")
    given = given_to(
        reviews,
        name="balanced-examples",
        encoder="adviser.csv",
        k=1,
        examples={"encoder": str(trained_run), **DEMO},
    )[0]
    assert given.adviser_prediction == sentikit.Prediction("neutral")
    assert [example.label for example in given.examples] == list(CLASSES)
    demo = sentikit.open_dataset("demo").split("train").texts
    assert {example.text for example in given.examples} <= set(demo)


def test_template_prompts_contain_the_nearest_examples(trained_run: Path, reviews: Path) -> None:
    with serving() as s:
        components = make_components(
            dataset=dataset(reviews),
            llm={"backend": "openai", "model": "any", "base_url": s.url, "in_flight": 1},
            strategy={
                "name": "template",
                "user": "{examples}\n--\nReview: {text}",
                "example": "[{text}] is {label}",
                "k": 2,
                "examples": {"encoder": str(trained_run), **DEMO},
            },
        )
        given = prompt_inputs(components)[:3]
        run_prompts(components, Path("runs/a"), limit=3)
        asked = {body["messages"][-1]["content"] for body in s.server.bodies}
    classifier = sentikit.load(trained_run, device="cpu")
    pool = sentikit.open_dataset("demo").split("train")
    embedded = embed(classifier, pool.texts).embeddings
    for one in given:
        similar = embedded @ embed(classifier, [one.text]).embeddings[0]
        nearest = [pool.texts[row] for row in np.argsort(-similar, kind="stable")[:2]]
        assert [example.text for example in one.examples] == nearest
        shown = "\n\n".join(f"[{e.text}] is {e.label}" for e in one.examples)
        assert f"{shown}\n--\nReview: {one.text}" in asked


def test_a_recorded_adviser_cannot_retrieve_examples(reviews: Path) -> None:
    test = sentikit.open_dataset(dataset(reviews)).split("test")
    lines = ["text,prediction", *(f"{text},neutral" for text in test.texts)]
    Path("adviser.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError, match=r"adviser\.csv is a file or run of recorded answers, but"):
        given_to(reviews, name="examples", encoder="adviser.csv", examples=DEMO)


def test_the_split_to_label_is_refused_as_source_of_examples(reviews: Path) -> None:
    with pytest.raises(InputError, match=r"strategy\.examples\.split: the split 'test' is the one"):
        given_to(reviews, name="examples", encoder="x", examples={"split": "test"})


def test_the_evaluated_split_under_another_name_yields_no_examples(
    trained_run: Path, reviews: Path
) -> None:
    same = {"name": "files", "validation": f"{reviews}/test.csv"}
    with pytest.raises(InputError, match="has 0 labelled texts that are not in the split"):
        given_to(reviews, name="examples", encoder=str(trained_run), examples={"dataset": same})
