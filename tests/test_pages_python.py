"""Python code on the pages: every block runs in a test, or its page says who runs it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from ensemble_runs import encoder_and_llm
from tiny_classifiers import make_classifier

ROOT = Path(__file__).resolve().parents[1]
#: Pages whose blocks are run by other tests, and which.
RUN_ELSEWHERE = {
    "docs/searching-settings.md": "test_searching_settings.py",
    "docs/writing-plugins.md": "test_hook_documentation.py",
    # Needs a language model: its names and arguments are run by these.
    "docs/fine-tuning.md": "test_local_finetuning.py",
}


def python_blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)


def run_blocks(page: Path) -> dict[str, Any]:
    names: dict[str, Any] = {}
    for block in python_blocks(page):
        exec(compile(block, str(page), "exec"), names)
    return names


def test_the_readmes_python_labels_texts_and_gives_probabilities(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_classifier(tmp_path / "runs" / "mine")
    classifier = run_blocks(ROOT / "README.md")["classifier"]
    assert classifier.predict_proba(["I love it"]).shape == (1, len(classifier.labels))


def test_the_python_of_the_comparing_page_writes_plots_and_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    encoder, llm = encoder_and_llm(tmp_path)
    for source, name in ((llm, "b3"), (encoder, "e3")):
        Path(source).rename(f"{name}.jsonl")
    page = (ROOT / "docs" / "comparing.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```", page, re.M | re.S)
    # The page's files are CSV with an encoder inside; here they are two plain results files.
    block = block.replace("e3.csv#encoder", "e3.csv").replace(".csv", ".jsonl")
    exec(compile(block, "comparing.md", "exec"), {})
    assert Path("report.html").stat().st_size > 10_000
    assert list(Path("plots").glob("*.svg"))


def test_the_lines_for_pandas_polars_and_datasets_label_every_row_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("polars")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    make_classifier(tmp_path / "runs" / "mine")
    texts = ["I love it", "not worth a cent", "a table", "good food"]
    Path("reviews.csv").write_text("text\n" + "\n".join(texts) + "\n")
    names = run_blocks(ROOT / "docs" / "models.md")
    expected = names["classifier"].predict(texts)
    for found in (names["frame"], names["table"], names["rows"]):
        assert list(found["predicted_label"]) == expected
        assert list(found["text"]) == texts


def test_every_page_with_python_is_run_by_a_test() -> None:
    pages = {
        str(page.relative_to(ROOT))
        for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
        if python_blocks(page) and page.parent.name != "hooks"
    }
    assert pages == {"README.md", "docs/comparing.md", "docs/models.md", *RUN_ELSEWHERE}
    assert all((ROOT / "tests" / test).is_file() for test in RUN_ELSEWHERE.values())
