"""Models loaded without transformers: the same word pieces, states and labels as with it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentikit.plugins.transformers_encoders.bert import Bert, light_backbone
from tiny_classifiers import TEXTS, make_classifier
from tiny_models import make_encoder, make_tokenizer

from sentikit import InputError
from sentikit.classifiers.batches import FastTokenizer, PretrainedTokenizer, tokenize
from sentikit.classifiers.loading import LoadingOptions, load_encoder

#: Never imported to label texts with an ONNX folder.
HEAVY = {
    *("torch", "transformers", "datasets", "scipy", "sklearn", "pandas", "aiohttp", "openai"),
    "sympy",
}


@pytest.mark.parametrize("architecture", ["bert", "electra", "roberta", "xlm-roberta"])
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_the_light_backbone_gives_the_same_probabilities_as_transformers(
    tmp_path: Path, architecture: str, pooling: str
) -> None:
    folder = make_classifier(tmp_path / "model", architecture=architecture, pooling=pooling)
    light = load_encoder(folder, LoadingOptions("cpu", "fp32"))
    whole = load_encoder(folder, LoadingOptions("cpu", "fp32", exportable=True))
    assert isinstance(light.predictor.model.encoder, Bert)  # type: ignore[attr-defined]
    assert type(whole.predictor.model.encoder).__module__.startswith("transformers.")  # type: ignore[attr-defined]
    expected = whole.predict_proba(TEXTS)
    assert expected.std(axis=0).max() > 0.01
    np.testing.assert_allclose(light.predict_proba(TEXTS), expected, atol=2e-6)
    assert light.max_length == whole.max_length


@pytest.mark.parametrize(
    "change",
    [
        {"hidden_act": "relu"},
        {"is_decoder": True},
        {"position_embedding_type": "relative_key"},
        {"model_type": "modernbert"},
        {"layer_norm_eps": None},
    ],
)
def test_configurations_unknown_to_the_light_backbone_use_transformers(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    folder = make_encoder(tmp_path / "encoder", "bert")
    path = folder / "config.json"
    assert light_backbone(folder) is not None
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert light_backbone(folder) is None


class TestFastTokenizer:
    def test_the_fast_tokenizer_gives_the_word_pieces_of_transformers(self, tmp_path: Path) -> None:
        make_tokenizer(tmp_path / "a")
        fast = FastTokenizer(tmp_path / "a")
        slow = PretrainedTokenizer(fast.pretrained)
        texts = [*TEXTS, "[CLS] unknown [PAD] wörds", "\t", "日本 great"]
        assert fast.ids(texts) == slow.ids(texts)
        assert fast.special_mask("a 1 .") == slow.special_mask("a 1 .")
        assert (fast.padding, fast.cuts_left) == (slow.padding, slow.cuts_left)

    def test_a_saved_truncation_and_padding_do_not_apply(self, tmp_path: Path) -> None:
        make_tokenizer(tmp_path / "a")
        plain = FastTokenizer(tmp_path / "a").ids(TEXTS)
        path = tmp_path / "a" / "tokenizer.json"
        content = json.loads(path.read_text())
        content["truncation"] = {
            "direction": "Right",
            "max_length": 4,
            "strategy": "LongestFirst",
            "stride": 0,
        }
        content["padding"] = {
            "strategy": {"Fixed": 9},
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": 0,
            "pad_type_id": 0,
            "pad_token": "[PAD]",
        }
        path.write_text(json.dumps(content))
        assert FastTokenizer(tmp_path / "a").ids(TEXTS) == plain

    @pytest.mark.parametrize("side", ["left", "right"])
    def test_long_texts_are_cut_on_the_side_that_the_folder_names(
        self, tmp_path: Path, side: str
    ) -> None:
        make_tokenizer(tmp_path / "a")
        path = tmp_path / "a" / "tokenizer_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"truncation_side": side}))
        fast = FastTokenizer(tmp_path / "a")
        cut = tokenize([["the food was great"]], fast, 4)
        whole = fast.ids(["the food was great"])[0]
        kept = whole[-3:-1] if side == "left" else whole[1:3]
        assert cut.pieces.tolist() == [whole[0], *kept, whole[-1]]

    def test_a_damaged_tokenizer_is_refused_in_one_sentence(self, tmp_path: Path) -> None:
        make_tokenizer(tmp_path / "a")
        (tmp_path / "a" / "tokenizer.json").write_text('{"model": 3}')
        with pytest.raises(InputError, match="has no usable tokenizer"):
            FastTokenizer(tmp_path / "a")


def imported_by(arguments: list[str], text: str, exit_code: int = 0) -> set[str]:
    """Return the modules that a command imports in a process of its own."""
    code = (
        "import sys\nfrom sentikit.cli import main\n"
        "try:\n    main(sys.argv[1:])\nfinally:\n    print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], input=text, capture_output=True, text=True
    )
    assert done.returncode == exit_code, done.stderr
    assert ('"predicted_label"' in done.stdout) == (exit_code == 0)
    return set(done.stderr.splitlines()[-1].split())


def test_a_native_model_labels_texts_without_importing_transformers(tmp_path: Path) -> None:
    folder = make_classifier(tmp_path / "model", architecture="bert")
    found = imported_by(["predict", str(folder)], "I love it\n")
    assert "torch" in found
    assert not found & (HEAVY - {"torch"})


def test_an_onnx_folder_labels_texts_without_importing_torch(
    tmp_path: Path,
) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    from sentikit import export_model

    export_model(make_classifier(tmp_path / "model", architecture="bert"), tmp_path / "x", "onnx")
    found = imported_by(["predict", str(tmp_path / "x")], "I love it\n")
    assert not found & HEAVY
    # What only LLMs, runs and progress bars need is left out too.
    assert not found & {"pyarrow", "asyncio", "ssl", "sqlite3", "ruamel", "rich"}
    assert not any(name.startswith(("sentikit.llm", "sentikit.recipe")) for name in found)


@pytest.mark.parametrize(
    "words",
    [
        ["predict", "MODEL", "missing.csv"],
        ["predict", "MODEL", "texts.csv", "--text-column", "txet"],
        ["predict", "MODEL", "texts.csv", "--precision", "int8"],
        ["evaluate", "MODEL", "--dataset", "dmo"],
        ["evaluate", "MODEL", "--dataset", "demo", "--split", "tset"],
    ],
    ids=" ".join,
)
def test_an_input_mistake_is_reported_before_anything_heavy_is_imported(
    tmp_path: Path, words: list[str]
) -> None:
    folder = make_classifier(tmp_path / "model", architecture="bert")
    Path("texts.csv").write_text("text\ngood\n")
    given = [str(folder) if word == "MODEL" else word for word in words]
    assert not imported_by(given, "", exit_code=2) & HEAVY
