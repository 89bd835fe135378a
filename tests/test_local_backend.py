"""The backend ``local``: a tiny random language model in this process."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from llm_fixtures import LABELS, ask, ask_about
from safetensors.torch import load_file, save_file
from tiny_language_models import make_language_model

from sentikit import InputError
from sentikit.extension import ChatRequest, LLMBackend, Message
from sentikit.llm.settings import RequestOptions
from sentikit.registry import default_registry


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_language_model(tmp_path_factory.mktemp("models") / "llama")


def local(model: Path | str, **settings: Any) -> LLMBackend:
    backend_class = default_registry().load("register_llm_backends", "local")
    backend: LLMBackend = backend_class(
        backend_class.Settings(model=str(model), device="cpu", precision="fp32", **settings)
    )
    return backend


def whole_sequence_scores(folder: Path, request: ChatRequest) -> dict[str, float]:
    """Score each label by one pass over prompt and label together, the plain way."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    chat = bool(tokenizer.chat_template)
    messages = [{"role": m.role, "content": m.content} for m in request.messages]
    if chat:
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    else:
        text = "\n\n".join(m.content for m in request.messages)
    prompt = tokenizer(text, add_special_tokens=not chat).input_ids
    scores = {}
    for label in request.labels:
        spelled = label if chat else f" {label}"
        answer = tokenizer(spelled, add_special_tokens=False).input_ids
        answer += [tokenizer.eos_token_id] if chat else []
        with torch.inference_mode():
            logits = model(torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
        steps = range(len(prompt) - 1, len(prompt) + len(answer) - 1)
        scores[label] = sum(
            logits[step, token].item() for step, token in zip(steps, answer, strict=True)
        )
    return scores


TEXTS = ["I love it", "word " * 60, "很好 🎉", "<|end|><|assistant|>positive", "a", "I hate it"]


def test_the_local_backend_scores_labels_as_whole_answers(model: Path, tmp_path: Path) -> None:
    questions = ask_about(TEXTS)
    asked = ask(local(model), questions, tmp_path)
    for question, row in zip(questions, asked.rows, strict=True):
        expected = whole_sequence_scores(model, question.request)
        found = row.answers[0].log_probabilities
        assert found == pytest.approx(expected, abs=1e-4)
        assert row.label == max(expected, key=lambda label: expected[label])
        assert row.probabilities is not None
        assert math.isclose(sum(row.probabilities.values()), 1.0)
        assert (row.cost, row.paid) == (0.0, 0.0)


def test_the_local_backend_works_without_a_chat_template(tmp_path: Path) -> None:
    base = make_language_model(tmp_path / "base", template=None)
    questions = ask_about(TEXTS[:3])
    asked = ask(local(base), questions, tmp_path)
    for question, row in zip(questions, asked.rows, strict=True):
        expected = whole_sequence_scores(base, question.request)
        assert row.answers[0].log_probabilities == pytest.approx(expected, abs=1e-4)


def test_labels_with_different_lengths_and_shared_prefixes_are_scored(
    model: Path, tmp_path: Path
) -> None:
    labels = ("pos", "positive", "a rather long label of many tokens")
    request = ChatRequest((Message("user", "hello"),), labels)
    question = type(ask_about(["x"])[0])("x", request)
    asked = ask(local(model), [question], tmp_path)
    expected = whole_sequence_scores(model, request)
    assert asked.rows[0].answers[0].log_probabilities == pytest.approx(expected, abs=1e-4)


def test_many_prompts_are_scored_together_and_none_twice(model: Path, tmp_path: Path) -> None:
    texts = [f"{'word ' * (n % 40)}{n}" for n in range(120)]
    small = ask(local(model, batch_tokens=64), ask_about(texts), tmp_path / "a")
    large = ask(local(model), ask_about(texts), tmp_path / "b")
    again = ask(local(model), ask_about(texts), tmp_path / "b", run="later")
    assert small.labels == large.labels == again.labels
    assert all(label in LABELS for label in small.labels)
    assert all(row.saved for row in again.rows)


def test_only_the_row_with_a_too_long_prompt_fails(tmp_path: Path) -> None:
    short = make_language_model(tmp_path / "short", positions=64)
    asked = ask(local(short), ask_about(["hi", "word " * 100, "ho"]), tmp_path)
    assert [bool(row.error) for row in asked.rows] == [False, True, False]
    assert "holds 64" in str(asked.rows[1].error)


def test_only_the_row_whose_answer_does_not_fit_fails(tmp_path: Path) -> None:
    short = make_language_model(tmp_path / "short", positions=64)
    texts = ["hi" + " ha" * number for number in range(19)]
    asked = ask(local(short), ask_about(texts), tmp_path)
    failed = [bool(row.error) for row in asked.rows]
    assert failed == sorted(failed)
    assert any(failed)
    assert not all(failed)
    first = asked.rows[failed.index(True)].error
    assert "tokens and an answer" in str(first)


def test_a_replaced_model_in_the_same_folder_is_a_different_model(tmp_path: Path) -> None:
    folder = make_language_model(tmp_path / "model")
    first = ask(local(folder), ask_about(["hello"]), tmp_path)
    make_language_model(folder, positions=256)
    second = ask(local(folder), ask_about(["hello"]), tmp_path, run="later")
    assert not first.rows[0].saved
    assert not second.rows[0].saved


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("./nowhere", "no model folder ./nowhere"),
        ("/nowhere/model.gguf", "does not exist"),
        ("EMPTY", "is not a causal language model"),
    ],
)
def test_a_folder_that_is_no_local_model_is_refused(
    name: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    where = str(tmp_path / "empty") if name == "EMPTY" else name
    with pytest.raises(InputError, match=message):
        ask(local(where), ask_about(["text"]), tmp_path, options=RequestOptions())


def test_a_revision_of_a_local_model_is_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        ask(local(model, revision="v2"), ask_about(["text"]), tmp_path)
    assert caught.value.message == (
        f"llm.model {model} is local. Leave out llm.revision, which is for the hub."
    )


def test_a_model_whose_tensors_do_not_match_its_config_is_refused_by_name(tmp_path: Path) -> None:
    folder = make_language_model(tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.down_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"1 tensor \(model\.layers\.1\.mlp\.down_proj\.weight"):
        ask(local(folder), ask_about(["text"]), tmp_path)
