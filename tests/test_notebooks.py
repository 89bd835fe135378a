"""Notebooks: objects show themselves, bars work, and the example gives the numbers it shows."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from ensemble_runs import LABELS, sure, write_results

import sentikit
from sentikit.extension import TrainedRun

NOTEBOOK = Path(__file__).parents[1] / "docs" / "notebooks" / "comparing.ipynb"


def compared(folder: Path) -> sentikit.Comparison:
    rows = [(f"<b>text</b> {i}", LABELS[i % 3], LABELS[(i + (i % 5 == 0)) % 3]) for i in range(60)]
    shares = [sure(row[2], 0.8) for row in rows]
    files = [
        write_results(folder / "<i>one.jsonl", rows, shares),
        write_results(folder / "two.jsonl", [(t, g, g) for t, g, _ in rows]),
    ]
    return sentikit.compare(files, resamples=50)


def test_a_comparison_shows_its_tables_with_names_escaped(tmp_path: Path) -> None:
    comparison = compared(tmp_path)
    shown = comparison._repr_html_()
    assert "&lt;i&gt;one" in shown
    assert "<i>" not in shown
    assert f"{comparison.runs[0].scores.macro_f1:.4f}" in shown
    assert repr(comparison) == "<Comparison of <i>one, two on 60 texts>"


def test_a_comparison_converts_to_a_frame_of_runs_or_pairs(tmp_path: Path) -> None:
    comparison = compared(tmp_path)
    frame = comparison.to_frame()
    assert list(frame["run"].unique()) == ["<i>one", "two"]
    assert set(frame["source"]) == {"all", *comparison.sources}
    whole = frame[(frame["run"] == "<i>one") & (frame["source"] == "all")].iloc[0]
    assert whole["macro_f1"] == comparison.runs[0].estimates.macro_f1.value
    assert whole["macro_f1_low"] == comparison.runs[0].estimates.macro_f1.percentile.low
    pairs = comparison.to_frame("pairs")
    assert len(pairs) == 1
    assert pairs["permutation_p"][0] == comparison.differences[0].permutation.p
    with pytest.raises(sentikit.InputError, match="'runs' or 'pairs'"):
        comparison.to_frame("columns")


def test_a_run_displays_its_first_rows_and_converts_to_a_frame(tmp_path: Path) -> None:
    compared(tmp_path)
    run = sentikit.read_run(tmp_path / "<i>one.jsonl")
    shown = run._repr_html_()
    assert "accuracy 0.8000 on 60" in shown
    assert "&lt;b&gt;text" in shown
    assert "<b>" not in shown
    frame = run.to_frame()
    assert len(frame) == 60
    assert list(frame["label"][:2]) == [LABELS[1], LABELS[1]]
    assert frame["p neutral"][0] == pytest.approx(0.8)
    assert frame[["p negative", "p neutral", "p positive"]].sum(axis=1).round(6).eq(1).all()


def test_a_certificate_shows_what_it_promises_and_converts_to_a_frame() -> None:
    confidence = [0.5 + i / 2000 for i in range(1000)]
    certificate = sentikit.certify(
        confidence, confidence[::5], [i > 20 for i in range(200)], accuracy=0.9, level=0.999
    )
    assert certificate.share > 0
    shown = certificate._repr_html_()
    assert f"{certificate.share:.1%} of 1,000 rows certified at 90.0%" in shown
    assert "with probability 0.999<" in shown
    assert "<th>threshold</th>" in shown
    frame = certificate.to_frame()
    assert frame["share"].tolist() == [certificate.share]
    assert frame["accepted"].tolist() == [certificate.accepted]


def test_a_finished_run_shows_its_scores_and_converts_to_a_frame(
    trained_run: Path, reviews: Path
) -> None:
    section = {"name": "files", "test": f"{reviews}/test.csv"}
    done = sentikit.evaluate(str(trained_run), section)
    frame = done.to_frame()
    assert list(frame["source"]) == ["all", "cinema", "shop"]
    assert frame["macro_f1"][0] == done.metrics()["overall"]["macro_f1"]
    shown = done._repr_html_()
    assert "<h4>files, test</h4>" in shown
    assert "cinema" in shown
    trained = TrainedRun(trained_run, done)
    assert trained._repr_html_() == shown
    assert trained.to_frame().equals(frame)


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """Return the example as it is kept, and as it comes out of a real kernel."""
    nbformat = pytest.importorskip("nbformat")
    client = pytest.importorskip("nbclient")
    kept = nbformat.read(NOTEBOOK, as_version=4)
    run = copy.deepcopy(kept)
    folder = {"metadata": {"path": str(tmp_path_factory.mktemp("notebook"))}}
    client.NotebookClient(run, timeout=300, resources=folder).execute()
    return kept, run


def results(notebook: Any) -> list[dict[str, str]]:
    return [
        dict(output["data"])
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if output.output_type == "execute_result"
    ]


@pytest.mark.slow
class TestExample:
    def test_the_example_notebook_reproduces_its_outputs(self, executed: tuple[Any, Any]) -> None:
        kept, run = map(results, executed)
        assert [own["text/plain"] for own in run] == [own["text/plain"] for own in kept]
        assert run[0]["text/plain"] == "(339, 141, ('negative', 'neutral', 'positive'))"
        runs = run[2]["text/plain"].splitlines()
        assert runs[1].split() == ["0", "words", "141", "0.2452", "0.3546", "NaN"]
        assert runs[2].split() == ["1", "tfidf", "141", "0.5321", "0.5390", "0.7322"]
        assert run[3]["text/plain"].split()[-2:] == ["0.2869", "0.0005"]

    def test_the_example_notebook_shows_tables_and_a_progress_bar(
        self, executed: tuple[Any, Any]
    ) -> None:
        run = executed[1]
        (comparison,) = (own for own in results(run) if "Comparison" in own["text/plain"])
        assert "0.5321" in comparison["text/html"]
        (cell,) = (c for c in run.cells if "progress=True" in c.source and c.cell_type == "code")
        kinds = {kind for o in cell.outputs for kind in o.get("data", {})}
        assert "application/vnd.jupyter.widget-view+json" in kinds
