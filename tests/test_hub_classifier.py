"""Text classifiers that transformers wrote: from a folder or the hub, classes found by name."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hub_server import Repository, files_of, serve
from outside_tools import free_port
from safetensors.torch import load_file, save_file
from tiny_classifiers import POLARITY, TEXTS, make_classifier, make_text_classifier

import sentikit
from sentikit import InputError
from sentikit.cli import sentikit as sentikit_command
from sentikit.recipe.resolving import resolve_values
from sentikit.recipe_checks import recipe_problems
from sentikit.registry import default_registry

MLP = {"name": "mlp", "layers": 1, "width": 8, "activation": "relu", "dropout": 0.0}
TEXT = "the food was great"
NOT_EMPTY = [text for text in TEXTS if text.strip()]


def pipeline_shares(folder: Path) -> list[dict[str, float]]:
    from transformers import pipeline

    classify = pipeline("text-classification", str(folder), top_k=None, device="cpu")
    found = classify(TEXTS, truncation=True, max_length=130)
    return [{one["label"]: one["score"] for one in row} for row in found]


@pytest.mark.parametrize("architecture", ["bert", "electra", "roberta", "llama"])
def test_probabilities_are_those_of_the_pipeline(tmp_path: Path, architecture: str) -> None:
    folder = make_text_classifier(tmp_path / "model", POLARITY, architecture)
    classifier = sentikit.load(folder, device="cpu", precision="fp32")
    assert classifier.labels == ("negative", "neutral", "positive")
    expected = [[row[name] for name in POLARITY.values()] for row in pipeline_shares(folder)]
    np.testing.assert_allclose(classifier.predict_proba(TEXTS), expected, atol=1e-5)


def test_classes_in_another_order_keep_their_probabilities(tmp_path: Path) -> None:
    labels = {0: "POS", 1: "NEG", 2: "NEU"}
    folder = make_text_classifier(tmp_path / "model", labels)
    classifier = sentikit.load(folder, device="cpu", precision="fp32")
    assert classifier.scheme.name == "neg_neu_pos"
    expected = [[row[name] for name in ("NEG", "NEU", "POS")] for row in pipeline_shares(folder)]
    np.testing.assert_allclose(classifier.predict_proba(TEXTS), expected, atol=1e-5)


def test_labels_outside_known_schemes_become_classes(tmp_path: Path) -> None:
    folder = make_text_classifier(tmp_path / "model", {0: "anger", 1: "joy"})
    assert sentikit.load(folder, device="cpu").labels == ("anger", "joy")


def command(*words: str | Path) -> Result:
    return CliRunner().invoke(sentikit_command, list(map(str, words)))


class TestLabelMapOfCommands:
    MAP = "LABEL_0=positive,LABEL_1=neutral,LABEL_2=negative"

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        Path("texts.csv").write_text("text,label\n" + "".join(f"{t},neutral\n" for t in NOT_EMPTY))
        return make_text_classifier(tmp_path / "model", num_labels=3)

    def labels(self, folder: Path) -> list[str | None]:
        meant = dict(pair.split("=") for pair in self.MAP.split(","))
        return sentikit.load(folder, device="cpu", label_map=meant).predict(NOT_EMPTY)

    @pytest.mark.parametrize("once", [True, False])
    def test_predict_applies_a_label_map(self, folder: Path, once: bool) -> None:
        maps = [self.MAP] if once else self.MAP.split(",")
        words = [word for own in maps for word in ("--label-map", own)]
        done = command("predict", folder, "texts.csv", "--output", "out.csv", *words)
        assert done.exit_code == 0, done.output
        with open("out.csv", newline="") as file:
            found = [row["predicted_label"] for row in csv.DictReader(file)]
        assert found == self.labels(folder)

    def test_evaluate_applies_a_label_map_and_records_it(self, folder: Path) -> None:
        words = ["--dataset", "files", "--set", "test=texts.csv", "--output", "run"]
        done = command("evaluate", folder, *words, "--label-map", self.MAP)
        assert done.exit_code == 0, done.output
        assert sentikit.load("run", device="cpu").predict(NOT_EMPTY) == self.labels(folder)

    def test_a_run_is_not_resumed_with_another_map(self, folder: Path) -> None:
        words = ["--dataset", "files", "--set", "test=texts.csv", "--output", "run"]
        done = command("evaluate", folder, *words, "--label-map", self.MAP)
        assert done.exit_code == 0, done.output
        manifest = json.loads(Path("run/manifest.json").read_text())
        Path("run/manifest.json").write_text(json.dumps(manifest | {"status": "stopped"}))
        other = self.MAP.replace("LABEL_1", "LABEL_3").replace("LABEL_0", "LABEL_1")
        other = other.replace("LABEL_3", "LABEL_0")
        refused = command("evaluate", folder, *words, "--label-map", other, "--resume")
        assert refused.exit_code == 2
        assert "started with other settings: label_map" in refused.stderr

    def test_export_applies_a_label_map(self, folder: Path) -> None:
        pytest.importorskip("onnx")
        done = command("export", folder, "out", "--format", "onnx", "--label-map", self.MAP)
        assert done.exit_code == 0, done.output
        assert sentikit.load("out", device="cpu").predict(NOT_EMPTY) == self.labels(folder)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("LABEL_0", "--label-map 'LABEL_0' is not of the form LABEL=CLASS, such as"),
            ("LABEL_0=a,", "--label-map '' is not of the form LABEL=CLASS, such as"),
            ("=a", "--label-map '=a' is not of the form LABEL=CLASS, such as"),
            ("A=a,A=b", "--label-map names the label 'A' twice."),
        ],
    )
    @pytest.mark.parametrize("name", ["predict", "evaluate", "export"])
    def test_a_malformed_map_is_refused_before_the_model_is_looked_for(
        self, name: str, text: str, message: str
    ) -> None:
        refused = command(name, "nowhere", "x", "--label-map", text)
        assert refused.exit_code == 2
        assert refused.stderr.startswith(f"Error: {message}")
        assert refused.stderr.count("\n") == 1

    def test_a_revision_is_for_models_on_the_hub(self, folder: Path) -> None:
        for words in (["predict", folder, "texts.csv"], ["export", folder, "x", "--format=hub"]):
            refused = command(*words, "--revision", "v2")
            assert refused.exit_code == 2
            assert "Leave out the revision" in refused.stderr


class TestLabelMap:
    def test_unnamed_labels_need_a_label_map(self, tmp_path: Path) -> None:
        folder = make_text_classifier(tmp_path / "model", num_labels=3)
        with pytest.raises(InputError, match=r"LABEL_0, LABEL_1, LABEL_2.*--label-map LABEL_0="):
            sentikit.load(folder, device="cpu")
        label_map = {"label_0": "positive", "LABEL_1": "neutral", "LABEL_2": "negative"}
        classifier = sentikit.load(folder, device="cpu", precision="fp32", label_map=label_map)
        expected = [[row[f"LABEL_{n}"] for n in (2, 1, 0)] for row in pipeline_shares(folder)]
        assert classifier.labels == ("negative", "neutral", "positive")
        np.testing.assert_allclose(classifier.predict_proba(TEXTS), expected, atol=1e-5)

    def test_several_labels_may_mean_one_class(self, tmp_path: Path) -> None:
        stars = {n: f"{n + 1} stars" for n in range(5)}
        folder = make_text_classifier(tmp_path / "model", stars)
        means = dict(
            zip(stars.values(), [*["negative"] * 2, "neutral", *["positive"] * 2], strict=True)
        )
        classifier = sentikit.load(folder, device="cpu", precision="fp32", label_map=means)
        for found, row in zip(
            classifier.predict_proba(TEXTS), pipeline_shares(folder), strict=True
        ):
            sums = dict.fromkeys(classifier.labels, 0.0)
            for label, share in row.items():
                sums[means[label]] += share
            np.testing.assert_allclose(found, list(sums.values()), atol=1e-5)

    def test_a_map_that_misses_a_label_or_names_another_is_refused(self, tmp_path: Path) -> None:
        folder = make_text_classifier(tmp_path / "model", POLARITY)
        with pytest.raises(InputError, match="The label map misses Neutral, Positive"):
            sentikit.load(folder, label_map={"negative": "a"})
        with pytest.raises(InputError, match=r"'Neutrall', which .* Did you mean 'Neutral'"):
            sentikit.load(folder, label_map={"Neutrall": "a"})

    def test_a_label_map_is_refused_for_a_model_with_named_classes(self, trained_run: Path) -> None:
        with pytest.raises(InputError, match="Leave out the label map"):
            sentikit.load(trained_run, label_map={"a": "b"})


class TestRefusals:
    def test_hub_weights_that_do_not_fit_the_config_are_refused(self, tmp_path: Path) -> None:
        folder = make_text_classifier(tmp_path / "model", POLARITY)
        weights = load_file(folder / "model.safetensors")
        del weights["classifier.weight"]
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(InputError, match=r"does not fit its config.json.*classifier\.weight"):
            sentikit.load(folder)

    def test_a_hub_model_with_pickled_weights_is_refused(self, tmp_path: Path) -> None:
        folder = make_text_classifier(tmp_path / "model", POLARITY)
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
        with pytest.raises(InputError, match=r"pickled ones.* are refused"):
            sentikit.load(folder)

    @pytest.mark.parametrize("kind", ["regression", "multi_label_classification"])
    def test_a_multi_label_or_regression_hub_model_is_refused(
        self, tmp_path: Path, kind: str
    ) -> None:
        folder = make_text_classifier(tmp_path / "model", POLARITY, problem_type=kind)
        with pytest.raises(InputError, match=kind.replace("_", " ")):
            sentikit.load(folder)

    def test_a_hub_models_own_code_is_not_run(self, tmp_path: Path) -> None:
        folder = make_text_classifier(tmp_path / "model", POLARITY)
        config = json.loads((folder / "config.json").read_text())
        config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config"}}
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "mine.py").write_text("raise SystemExit('was run')")
        with pytest.raises(InputError, match=r"cannot be read|code"):
            sentikit.load(folder)

    def test_a_hub_model_without_tokenizer_is_refused(self, tmp_path: Path) -> None:
        folder = make_text_classifier(tmp_path / "model", POLARITY)
        (folder / "tokenizer.json").unlink()
        with pytest.raises(InputError, match="has no tokenizer"):
            sentikit.load(folder)


_LOADER = """
import json, sys, huggingface_hub, sentikit
for line in sys.stdin:
    name, options = json.loads(line)
    # A connection that is kept alive would lead to an earlier test's hub.
    huggingface_hub.close_session()
    try:
        answer = sentikit.load(name, device="cpu", **options).predict([sys.argv[1]])
    except sentikit.SentikitError as error:
        answer = {"error": error.message, "exit_code": error.exit_code}
    print(json.dumps(answer), flush=True)
"""


@dataclass(frozen=True)
class LoadingProcess:
    """A process that loads models from a hub at `port`, which may or may not be served."""

    port: int
    pipes: subprocess.Popen[str]

    def __call__(self, *asked: tuple[str, dict[str, Any]]) -> list[Any]:
        """Load models by name and options; return the labels of `TEXT` or refusals."""
        assert self.pipes.stdin is not None
        assert self.pipes.stdout is not None
        self.pipes.stdin.write("".join(json.dumps(one) + "\n" for one in asked))
        self.pipes.stdin.flush()
        return [json.loads(self.pipes.stdout.readline()) for _ in asked]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoadingProcess]:
    port, cache = free_port(), tmp_path_factory.mktemp("hub") / "cache"
    variables = {"HF_ENDPOINT": f"http://127.0.0.1:{port}", "HF_HOME": str(cache)}
    with subprocess.Popen(
        [sys.executable, "-c", _LOADER, TEXT],
        env=os.environ | variables | {"OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield LoadingProcess(port, process)
        process.communicate()
    assert process.returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("shards", [False, True])
@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("hidden_size", 10**9, r"hidden_size is 1000000000, but must be from 1 to "),
        ("num_hidden_layers", 10**6, r"num_hidden_layers is 1000000, but must be from 1 to "),
        ("vocab_size", "x", r"vocab_size is 'x', but must be from 1 to "),
        ("hidden_size", 16, r"has shape \(.*\) instead of \(.*\)"),
        ("num_hidden_layers", 3, r"tensors \(.*layer\.2\..*\) missing"),
    ],
)
def test_a_config_that_does_not_fit_the_weights_is_refused_naming_size_or_tensor(
    tmp_path: Path, key: str, value: object, message: str, shards: bool
) -> None:
    folder = make_text_classifier(tmp_path / "model", POLARITY)
    if shards:
        from transformers import AutoModelForSequenceClassification

        model = AutoModelForSequenceClassification.from_pretrained(folder)
        (folder / "model.safetensors").unlink()
        model.save_pretrained(folder, max_shard_size="20KB")
        assert len(list(folder.glob("model-*.safetensors"))) > 1
        assert sentikit.load(folder, device="cpu").predict([TEXT])
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(InputError, match=message):
        sentikit.load(folder, device="cpu")


def test_a_model_on_the_hub_is_fetched_once_and_loaded_without_a_network(
    tmp_path: Path, trained_run: Path, loaded: LoadingProcess
) -> None:
    first = make_text_classifier(tmp_path / "first", POLARITY)
    other = shutil.copytree(first, tmp_path / "other")
    make_text_classifier(other, {0: "Positive", 1: "Neutral", 2: "Negative"})
    encoder = {"config.json": b'{"architectures": ["BertForMaskedLM"], "model_type": "bert"}'}
    repositories = {
        "jane/mood": Repository({"main": files_of(first), "v2": files_of(other)}),
        "jane/ours": Repository({"main": files_of(trained_run / "model")}),
        "jane/gated": Repository({"main": files_of(first)}, gated=True),
        "jane/encoder": Repository({"main": encoder}),
    }
    with serve(repositories, loaded.port) as hub:
        named, second, ours, gated, typo, wrong, no_classifier = loaded(
            ("jane/mood", {}),
            ("jane/mood", {"revision": "v2"}),
            ("jane/ours", {}),
            ("jane/gated", {}),
            ("jane/mod", {}),
            ("jane/mood", {"revision": "v3"}),
            ("jane/encoder", {}),
        )
        assert not any(".py" in path or ".bin" in path for path in hub.requests)
    again, missing = loaded(("jane/mood", {}), ("jane/new", {}))
    assert named == sentikit.load(first, device="cpu").predict([TEXT])
    assert second == sentikit.load(other, device="cpu").predict([TEXT])
    assert ours == sentikit.load(trained_run, device="cpu").predict([TEXT])
    assert "The model 'jane/gated' is gated. Request access" in gated["error"]
    assert "no model 'jane/mod' on the hub, and no folder of that name" in typo["error"]
    assert "no revision 'v3'" in wrong["error"]
    assert "is not a text classifier: its config.json is for BertFor" in no_classifier["error"]
    refused = (gated, typo, wrong, no_classifier)
    assert all(refusal["exit_code"] == 2 for refusal in refused)

    assert again == named
    assert "nor in the hub's cache, and the hub cannot be reached" in missing["error"]
    assert "hf download jane/new --local-dir DIR" in missing["error"]
    assert missing["exit_code"] == 1


def test_the_published_models_have_short_names(tmp_path: Path, loaded: LoadingProcess) -> None:
    names = {}
    for size, labels in (
        ("base", POLARITY),
        ("large", {0: "Neutral", 1: "Positive", 2: "Negative"}),
    ):
        native = make_classifier(tmp_path / f"{size}-native", pooling="mean", head=MLP)
        folder = tmp_path / size
        sentikit.export_model(native, folder, "electra-classifier")
        config = json.loads((folder / "config.json").read_text())
        config["id2label"] = {str(number): label.lower() for number, label in labels.items()}
        (folder / "config.json").write_text(json.dumps(config))
        names[f"jbeno/electra-{size}-classifier-sentiment"] = folder
    repositories = {
        name: Repository({"main": files_of(folder), "v1": files_of(folder)})
        for name, folder in names.items()
    }
    with serve(repositories, loaded.port):
        *found, wrong, typo = loaded(
            ("electra-base-sentiment", {}),
            ("electra-large-sentiment", {"revision": "v1", "precision": "fp32"}),
            ("electra-base-sentiment", {"revision": "v9"}),
            ("electra-base-sentimnt", {}),
        )
    expected = [sentikit.load(folder, device="cpu").predict([TEXT]) for folder in names.values()]
    assert found == expected
    assert found[0] != found[1]
    assert "no revision 'v9'" in wrong["error"]
    assert "Did you mean 'electra-base-sentiment'" in typo["error"]


def test_a_short_name_may_be_a_member_and_a_folder_of_that_name_takes_precedence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    members = {"members": ["electra-base-sentiment", "current-zero-shot"], "thresholds": [0.5]}
    recipe = resolve_values({"kind": "cascade", "cascade": members}, "own", "test")
    assert recipe_problems(recipe, default_registry()) == []
    folder = make_text_classifier(tmp_path / "electra-base-sentiment", POLARITY)
    assert sentikit.load("electra-base-sentiment").predict(TEXTS) == sentikit.load(folder).predict(
        TEXTS
    )


@pytest.mark.slow
def test_commands_take_hub_names_as_classifier_encoder_and_adviser_without_progress_bars(
    tmp_path: Path, tiny_encoder: Path, tiny_recipe: Path
) -> None:
    mood = make_text_classifier(tmp_path / "mood", POLARITY)
    repositories = {
        "jane/mood": Repository({"main": files_of(mood)}),
        "jane/encoder": Repository({"main": files_of(tiny_encoder)}),
    }
    Path("texts.csv").write_text(f"text,label\n{TEXT},neutral\n")
    dataset = "dataset={name: files, test: texts.csv}"
    adviser = ["strategy.name=template", "strategy.adviser=jane/mood"]
    adviser += ["strategy.user='{text}: {adviser.label}'", dataset]
    encoder = ["encoder={name: transformers, model: jane/encoder}", "training.epochs=1"]
    with serve(repositories) as hub:
        variables = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "cache")}

        def run(*words: str, settings: list[str]) -> subprocess.CompletedProcess[str]:
            given = [word for setting in settings for word in ("--set", setting)]
            return subprocess.run(
                [sys.executable, "-m", "sentikit", *words, *given],
                env=os.environ | variables | {"OMP_NUM_THREADS": "1"},
                capture_output=True,
                text=True,
            )

        predicted = run("predict", "jane/mood", "texts.csv", settings=[])
        shown = run("prompt", "--recipe", "current-zero-shot", "--show", "1", settings=adviser)
        trained = run("train", "--recipe", str(tiny_recipe), "--output", "run", settings=encoder)
    (label,) = sentikit.load(mood, device="cpu").predict([TEXT])
    assert f",{label}," in predicted.stdout
    assert "Fetching" not in predicted.stderr
    assert f"{TEXT}: {label}" in shown.stdout, shown.stderr
    assert trained.returncode == 0, trained.stderr
    assert sentikit.load("run", device="cpu").predict([TEXT])[0] in (
        "negative",
        "neutral",
        "positive",
    )
