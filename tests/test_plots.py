"""Learning curves and confusion matrices: what a figure shows, and where the files go."""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sentikit.cli import sentikit
from sentikit.errors import InputError

pytest.importorskip("matplotlib")

from sentikit.plotting import (
    confusion_matrix,
    learning_curves,
    read_log,
    save_figure,
    save_run_plots,
)


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


def texts(axes: Any) -> list[str]:
    return [text.get_text() for text in axes.texts]


def written(axes: Any) -> list[Any]:
    """Return the titles and all that is written into and above the axes."""
    from matplotlib.text import Text

    return [child for child in axes.get_children() if isinstance(child, Text)]


def size(path: Path) -> tuple[int, int]:
    """Read width and height from a PNG's header."""
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    return struct.unpack(">II", data[16:24])


def overlapping(figure: Any, artists: list[Any]) -> list[tuple[str, str]]:
    """Return the texts that lie on each other once the figure is drawn."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    boxes = [(a.get_text(), a.get_window_extent()) for a in artists if a.get_text()]
    return [
        (one, other)
        for number, (one, box) in enumerate(boxes)
        for other, second in boxes[number + 1 :]
        if box.overlaps(second)
    ]


def test_learning_curves_show_losses_and_scores_by_epoch() -> None:
    loss, scores = learning_curves(RECORDS).axes
    lines = {line.get_label(): line for line in [*loss.lines, *scores.lines]}
    assert list(lines["training"].get_xdata()) == [1, 2, 3]
    assert list(lines["training"].get_ydata()) == [0.9, 0.6, 0.5]
    assert list(lines["validation"].get_ydata()) == pytest.approx([1.0, 0.7, 0.6])
    assert list(lines["macro-F1"].get_ydata()) == [0.5, 0.7, 0.6]
    assert list(lines["accuracy"].get_ydata()) == pytest.approx([0.55, 0.75, 0.65])
    # Steps stand where they belong between the epochs; the one whose loss is NaN is left out.
    assert list(lines["training, by step"].get_xdata()) == [n / 4 for n in range(1, 8)]
    assert "kept: epoch 2, 0.7000" in texts(scores)


def test_a_single_epoch_can_be_drawn() -> None:
    figure = learning_curves([step(4, 0.0), epoch(1, 0.0, 0.5, 1)])
    assert save_figure(figure, Path("one.png")) == Path("one.png")
    assert size(Path("one.png")) == (1440, 600)


def test_a_spike_does_not_press_the_curves_to_the_bottom() -> None:
    spike = [step(number, 1.0) for number in range(1, 200)] + [step(200, 1e6)]
    loss, _ = learning_curves([*spike, epoch(1, 0.9, 0.5, 1)]).axes
    assert loss.get_ylim()[1] < 2


def test_the_confusion_matrix_holds_counts_and_shares_of_the_gold_class() -> None:
    (axes,) = confusion_matrix(SCORES, "Predictions on test").axes
    cells = texts(axes)
    assert {"1,000\n83.3%", "200\n16.7%", "30\n10.0%", "270\n90.0%"} <= set(cells)
    assert "macro-F1 0.7000   accuracy 0.7100   n = 1,500" in cells
    assert [label.get_text() for label in axes.get_xticklabels()] == ["negative", "positive"]
    rows = [label.get_text() for label in axes.get_yticklabels()]
    assert rows == ["negative\nn = 1,200", "positive\nn = 300"]
    shown = axes.images[0].get_array()
    assert shown is not None
    assert shown.tolist()[1] == pytest.approx([0.1, 0.9])


def test_invalid_answers_have_a_column_of_their_own() -> None:
    confusion = {
        name: {**row, "invalid": number}
        for number, (name, row) in enumerate(SCORES["confusion"].items())
    }
    (axes,) = confusion_matrix({**SCORES, "invalid": 1, "confusion": confusion}, "x").axes
    assert axes.get_xticklabels()[-1].get_text() == "invalid"
    assert "1\n0.3%" in texts(axes)


@pytest.mark.parametrize(
    "classes",
    [
        ["no", "yes"],
        ["negative", "neutral", "positive"],
        ["very negative", "somewhat negative", "neutral", "some$what$ positive", "very positive"],
        [f"emotion {number}" for number in range(14)],
    ],
)
def test_no_text_lies_on_another(classes: list[str]) -> None:
    confusion = {
        gold: {**{answer: 12_345 if answer == gold else 678 for answer in classes}, "invalid": 0}
        for gold in classes
    }
    figure = confusion_matrix({**SCORES, "confusion": confusion}, "Predictions on validation")
    (axes,) = figure.axes
    upright = [label for label in axes.get_xticklabels() if not label.get_rotation()]
    rows = axes.get_yticklabels()
    assert overlapping(figure, [*written(axes), *upright, *rows]) == []
    loss, scores = (curves := learning_curves(RECORDS)).axes
    legends = [text for a in (loss, scores) for text in a.get_legend().get_texts()]
    assert overlapping(curves, [*legends, *written(loss), *written(scores)]) == []


def test_an_empty_gold_class_is_drawn() -> None:
    confusion = {**SCORES["confusion"], "mixed": {"negative": 0, "positive": 0, "mixed": 0}}
    rows = {name: {**row, "mixed": 0, "invalid": 0} for name, row in confusion.items()}
    figure = confusion_matrix({**SCORES, "confusion": rows}, "Predictions on test")
    assert texts(figure.axes[0]).count("0\n0.0%") >= 3


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
    assert "run/plots/confusion_matrix.png" in result.stderr
    command = ["evaluate", "run", "--split", "validation", "--output", "scored", "--plots"]
    result = CliRunner().invoke(sentikit, [*command, "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["split"] == "validation"
    assert [path.name for path in Path("scored/plots").iterdir()] == ["confusion_matrix.png"]


def test_drawing_again_replaces_the_files(tiny_recipe: Path) -> None:
    train(tiny_recipe)
    assert not Path("run/plots").exists()
    first = save_run_plots(Path("run"))
    assert save_run_plots(Path("run")) == first
    assert len(list(Path("run/plots").iterdir())) == 2


def test_evaluate_needs_a_folder_to_draw_into() -> None:
    result = CliRunner().invoke(sentikit, ["evaluate", "somewhere", "--plots"])
    assert result.exit_code == 2
    assert "--output" in result.stderr


def test_a_missing_matplotlib_is_said_before_training(
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
