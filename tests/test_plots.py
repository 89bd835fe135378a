"""Learning curves and confusion matrices: what a figure shows, and where the files go."""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from sentikit.cli import sentikit
from sentikit.errors import InputError

pytest.importorskip("matplotlib")

from sentikit.plugins.report.charts import learning_curves
from sentikit.plugins.report.drawing import (
    Circle,
    Drawing,
    Polyline,
    Rect,
    Text,
    paint,
    save_drawing,
    sheet,
)
from sentikit.plugins.report.figures import confusion_figure, read_log, save_run_plots


def epoch(number: int, loss: float, macro_f1: float, best: int) -> dict[str, Any]:
    return {
        "kind": "epoch",
        "epoch": number,
        "step": 4 * number,
        "training_loss": loss,
        "validation_loss": loss + 0.1,
        "validation_macro_f1": macro_f1,
        "validation_accuracy": macro_f1 + 0.05,
        "best_epoch": best,
    }


def step(number: int, loss: float | None) -> dict[str, Any]:
    return {"kind": "step", "step": number, "epoch": 1, "loss": loss}


RECORDS = [
    *(step(number, 1.2 - 0.1 * number) for number in range(1, 8)),
    step(8, None),
    epoch(1, 0.9, 0.5, 1),
    epoch(2, 0.6, 0.7, 2),
    epoch(3, 0.5, 0.6, 2),
]
SCORES = {
    "examples": 1500,
    "macro_f1": 0.7,
    "accuracy": 0.71,
    "invalid": 0,
    "confusion": {
        "negative": {"negative": 1000, "positive": 200, "invalid": 0},
        "positive": {"negative": 30, "positive": 270, "invalid": 0},
    },
}


def confusion_matrix(scores: Any, title: str) -> Drawing:
    return sheet([confusion_figure(scores, title)])


def polylines(drawing: Drawing, kind: str) -> list[Polyline]:
    return [s for s in drawing.shapes if isinstance(s, Polyline) and s.kind == kind]


def values_up(points: Any, scale: tuple[float, float], ends: tuple[float, float]) -> list[float]:
    """Return what coordinates stand for, from two values and where these are drawn."""
    (low, high), (bottom, top) = scale, ends
    return [low + (y - bottom) / (top - bottom) * (high - low) for _, y in points]


def size(path: Path) -> tuple[int, int]:
    """Read width and height from a PNG's header."""
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    return struct.unpack(">II", data[16:24])


def overlapping(drawing: Drawing) -> list[tuple[str, str]]:
    """Return the texts that lie on each other once the drawing is painted."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = paint(drawing, 1440)
    FigureCanvasAgg(figure).draw()
    shown = [text for text in figure.axes[0].texts if text.get_text() and not text.get_rotation()]
    corners = np.array([text.get_window_extent().extents for text in shown])
    low, high = corners[:, :2], corners[:, 2:]
    overlap = ((low[:, None] <= high) & (low <= high[:, None])).all(axis=-1)
    return [
        (shown[one].get_text(), shown[other].get_text())
        for one, other in np.argwhere(np.triu(overlap, 1))
    ]


def test_learning_curves_show_losses_and_scores_by_epoch() -> None:
    drawing = learning_curves(RECORDS)
    (training,), (loss_line, score_line) = (
        [p for p in polylines(drawing, f"curve {tone}") if len(p.points) == 3]
        for tone in ("accent", "second")
    )
    (accuracy,) = (p for p in polylines(drawing, "curve plain") if len(p.points) == 3)
    # The epochs are equally far apart, and both panels have them.
    for curve in (training, loss_line, score_line, accuracy):
        xs = [x for x, _ in curve.points]
        assert xs[2] - xs[1] == pytest.approx(xs[1] - xs[0])
    known, ends = (0.9, 0.5), (training.points[0][1], training.points[2][1])
    assert values_up(training.points, known, ends) == pytest.approx([0.9, 0.6, 0.5])
    assert values_up(loss_line.points, known, ends) == pytest.approx([1.0, 0.7, 0.6])
    known, ends = (0.5, 0.7), (score_line.points[0][1], score_line.points[1][1])
    assert values_up(score_line.points, known, ends) == pytest.approx([0.5, 0.7, 0.6])
    assert values_up(accuracy.points, known, ends) == pytest.approx([0.55, 0.75, 0.65])
    # Steps stand where they belong between the epochs; the one whose loss is NaN is left out.
    (by_step, _) = polylines(drawing, "thin accent")
    first, second = training.points[0][0], training.points[1][0]
    epochs = [1 + (x - first) / (second - first) for x, _ in by_step.points]
    assert epochs == pytest.approx([n / 4 for n in range(1, 8)])
    assert "kept: epoch 2, 0.7000" in drawing.texts()
    assert {"training", "validation", "macro-F1", "accuracy"} <= set(drawing.texts())


def test_a_single_epoch_can_be_drawn() -> None:
    drawing = learning_curves([step(4, 0.0), epoch(1, 0.0, 0.5, 1)])
    assert save_drawing(drawing, Path("one.png"), 1440) == Path("one.png")
    assert size(Path("one.png")) == (1440, 600)


def test_a_spike_does_not_flatten_the_learning_curves() -> None:
    spike = [step(number, 1.0) for number in range(1, 200)] + [step(200, 1e6)]
    drawing = learning_curves([*spike, epoch(1, 0.9, 0.5, 1)])
    (curve, _) = polylines(drawing, "thin accent")
    # The panel is 216 units high: a loss of 1 stands in its upper half.
    assert 262 - curve.points[0][1] > 108
    assert min(y for _, y in curve.points) >= 46


def test_the_confusion_matrix_holds_counts_and_shares_of_the_gold_class() -> None:
    drawing = confusion_matrix(SCORES, "Predictions on test")
    cells = drawing.texts()
    assert {"1,000", "83.3%", "200", "16.7%", "30", "10.0%", "270", "90.0%"} <= set(cells)
    assert "macro-F1 0.7000   accuracy 0.7100   n = 1,500" in cells
    assert cells.count("negative") == cells.count("positive") == 2
    assert {"n = 1,200", "n = 300"} <= set(cells)
    rects = [shape for shape in drawing.shapes if isinstance(shape, Rect)]
    assert [rect.kind for rect in rects] == [
        f"cell {t}" for t in "accent second second accent".split()
    ]
    assert rects[2].hint == "positive as negative: 30 (10.0%)"
    # The larger the share of the row, the stronger the colour.
    shades = [rect.opacity or 0 for rect in rects]
    assert shades[3] > shades[0] > shades[1] > shades[2]


def test_invalid_answers_have_a_column_of_their_own() -> None:
    confusion = {
        name: {**row, "invalid": number}
        for number, (name, row) in enumerate(SCORES["confusion"].items())
    }
    shown = confusion_matrix({**SCORES, "invalid": 1, "confusion": confusion}, "x").texts()
    assert "invalid" in shown
    assert {"1", "0.3%"} <= set(shown)


@pytest.mark.parametrize(
    "classes",
    [
        ["no", "yes"],
        ["negative", "neutral", "positive"],
        ["very negative", "somewhat negative", "neutral", "some$what$ positive", "very positive"],
        [f"emotion {number}" for number in range(14)],
        [f"emotion {number}" for number in range(28)],
    ],
)
def test_texts_in_confusion_matrices_do_not_overlap(classes: list[str]) -> None:
    confusion = {
        gold: {**{answer: 12_345 if answer == gold else 678 for answer in classes}, "invalid": 0}
        for gold in classes
    }
    drawing = confusion_matrix({**SCORES, "confusion": confusion}, "Predictions on validation")
    assert overlapping(drawing) == []
    inside = [s for s in drawing.shapes if isinstance(s, Rect | Circle | Text)]
    assert all(0 <= s.x <= drawing.width and 0 <= s.y <= drawing.height for s in inside)


def test_texts_in_learning_curves_do_not_overlap() -> None:
    assert overlapping(learning_curves(RECORDS)) == []


def test_an_empty_gold_class_is_drawn() -> None:
    confusion = {**SCORES["confusion"], "mixed": {"negative": 0, "positive": 0, "mixed": 0}}
    rows = {name: {**row, "mixed": 0, "invalid": 0} for name, row in confusion.items()}
    shown = confusion_matrix({**SCORES, "confusion": rows}, "Predictions on test").texts()
    assert shown.count("0") >= 3
    assert shown.count("0.0%") >= 3


def train(recipe: Path, *arguments: str) -> Result:
    return CliRunner().invoke(
        sentikit, ["train", "--recipe", str(recipe), "--output", "run", *arguments]
    )


def test_train_and_evaluate_draw_into_the_run(tiny_recipe: Path) -> None:
    result = train(tiny_recipe, "--plots")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in Path("run/plots").iterdir()) == [
        "confusion_matrix.png",
        "learning_curves.png",
    ]
    assert size(Path("run/plots/learning_curves.png")) == (1440, 600)
    overall = json.loads(Path("run/metrics.json").read_text())["overall"]
    assert 0 <= overall["ranking"]["auc"] <= 1
    assert len(next(iter(overall["ranking"]["per_class"].values()))["roc"]) > 1
    assert -1 <= overall["metrics"]["quadratic_weighted_kappa"] <= 1
    assert "run/plots/confusion_matrix.png" in result.stderr
    command = ["evaluate", "run", "--split", "validation", "--output", "scored", "--plots"]
    result = CliRunner().invoke(sentikit, [*command, "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["split"] == "validation"
    assert [path.name for path in Path("scored/plots").iterdir()] == ["confusion_matrix.png"]


def test_drawing_plots_again_replaces_the_files(tiny_recipe: Path) -> None:
    train(tiny_recipe)
    assert not Path("run/plots").exists()
    first = save_run_plots(Path("run"))
    assert save_run_plots(Path("run")) == first
    assert len(list(Path("run/plots").iterdir())) == 2


def test_evaluate_needs_a_folder_to_draw_into() -> None:
    result = CliRunner().invoke(sentikit, ["evaluate", "somewhere", "--plots"])
    assert result.exit_code == 2
    assert "--output" in result.stderr


def test_a_missing_matplotlib_is_reported_before_training(
    tiny_recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = train(tiny_recipe, "--plots")
    assert result.exit_code == 2
    assert "pip install 'sentikit[plots]'" in result.stderr
    assert not Path("run").exists()


def test_a_damaged_log_is_named_with_its_line() -> None:
    Path("log.jsonl").write_text('{"kind": "step"}\n{"kind"\n')
    with pytest.raises(InputError, match=r"log\.jsonl, line 2"):
        read_log(Path("log.jsonl"))
