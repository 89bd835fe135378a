"""Plots of comparisons and cascades for a paper: what is drawn, and that the files are sound."""

from __future__ import annotations

import struct
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from ensemble_runs import LABELS, encoder_and_llm, sure, write_results

import sentikit
from sentikit.cli import sentikit as command

pytest.importorskip("matplotlib")

from sentikit.plugins.report.charts import Bar, Priced, class_curves, cost_front, forest
from sentikit.plugins.report.drawing import Circle, Drawing, Figure, Polyline, Text, paint, sheet
from sentikit.plugins.report.figures import comparison_figures
from sentikit.plugins.report.geometry import Box, place_names

ALWAYS = ["confusion_matrices", "metrics", "scores"]


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(command, list(arguments))


def names(folder: Path, suffix: str) -> list[str]:
    return sorted(path.stem for path in folder.glob(f"*.{suffix}"))


def width(path: Path) -> int:
    """Read the width from a PNG's header."""
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    return int(struct.unpack(">I", data[16:20])[0])


def circles(drawing: Drawing) -> list[Circle]:
    return [shape for shape in drawing.shapes if isinstance(shape, Circle)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Three runs over 90 texts with sources and probabilities; their names would be formulas."""
    folder, paths = tmp_path_factory.mktemp("runs"), []
    for wrong in range(3):
        rows = []
        for i in range(90):
            label = LABELS[(i + (i % 7 == wrong)) % 3]
            rows.append((f"text number {i}", LABELS[i % 3], label))
        path = folder / f"run $\\frac{wrong}$ <b>.jsonl"
        paths.append(write_results(path, rows, [sure(r[2], 0.8) for r in rows], [0.001] * 90))
    return paths


@pytest.fixture(scope="module")
def compared(
    runs: list[str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Result, Path, dict[str, float]]:
    """What `compare --plots` prints, the folder of its charts, and the training costs."""
    folder = tmp_path_factory.mktemp("compared") / "plots"
    costs = {path: float(number) for number, path in enumerate(runs)}
    words = [f"--training-cost={path}={cost}" for path, cost in costs.items()]
    result = invoke("compare", *runs, *words, "--resamples=99", f"--plots={folder}")
    assert result.exit_code == 0, result.output
    return result, folder, costs


class TestCommands:
    def test_compare_draws_every_available_chart_as_png_and_svg(
        self, compared: tuple[Result, Path, dict[str, float]]
    ) -> None:
        result, folder, _ = compared
        wanted = [*ALWAYS, "cost_front", "differences", "reliability", "sources"]
        wanted = sorted([*wanted, "precision_recall", "roc"])
        assert names(folder, "png") == names(folder, "svg") == wanted
        assert f"Drawn: {folder}/scores.png" in result.stderr
        assert width(folder / "scores.png") == 2100
        for path in folder.glob("*.svg"):
            root = ET.fromstring(path.read_bytes())
            assert root.tag.endswith("svg")
            assert not [tag for tag in root.iter() if tag.tag.endswith("script")]
            # Light, and dark where the system is; nothing is left to a page's variables.
            style = next(tag.text or "" for tag in root.iter() if tag.tag.endswith("style"))
            assert "prefers-color-scheme: dark" in style
            assert "var(" not in style

    def test_cascade_draws_its_curve(self, tmp_path: Path) -> None:
        encoder, llm = encoder_and_llm(tmp_path)
        folder = tmp_path / "plots"
        result = invoke("cascade", encoder, llm, "--threshold=0.55", f"--plots={folder}")
        assert result.exit_code == 0, result.output
        assert "cascade_curve" in names(folder, "png")

    def test_charts_without_data_are_not_drawn(self, tmp_path: Path) -> None:
        path = tmp_path / "only.csv"
        rows = [f"text {i},{LABELS[i % 3]},{LABELS[i * i % 3]}" for i in range(12)]
        path.write_text("text,gold,label\n" + "\n".join(rows) + "\n")
        comparison = sentikit.compare([path], resamples=20)
        saved = sentikit.save_plots(comparison, tmp_path / "plots")
        assert sorted({file.stem for file in saved}) == ALWAYS

    def test_equal_comparisons_give_identical_files(
        self,
        runs: list[str],
        compared: tuple[Result, Path, dict[str, float]],
        tmp_path: Path,
    ) -> None:
        _, folder, costs = compared
        comparison = sentikit.compare(runs, resamples=99, training_cost=costs)
        saved = sentikit.save_plots(comparison, tmp_path / "plots")
        assert sorted(path.name for path in saved) == sorted(p.name for p in folder.iterdir())
        for path in saved:
            assert path.read_bytes() == (folder / path.name).read_bytes(), path.name

    def test_a_missing_matplotlib_is_reported_before_any_work(
        self, runs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        folder = tmp_path / "plots"
        result = invoke("compare", *runs, f"--plots={folder}")
        assert result.exit_code == 2
        assert "pip install 'sentikit[plots]'" in result.stderr
        assert (result.stdout, folder.exists()) == ("", False)

    def test_a_file_in_place_of_the_folder_is_refused(
        self, runs: list[str], tmp_path: Path
    ) -> None:
        (tmp_path / "plots").touch()
        result = invoke("compare", *runs, f"--plots={tmp_path / 'plots'}")
        assert result.exit_code == 2
        assert "plots" in result.stderr

    def test_plots_of_a_recipe_are_refused(self) -> None:
        result = invoke("cascade", "--recipe=cascade-minilm-local", "--plots=plots")
        assert result.exit_code == 2
        assert not Path("plots").exists()


class TestFigures:
    def test_a_forest_plot_shows_values_and_intervals(self) -> None:
        bars = [Bar("one", 0.8, 0.7, 0.9, True), Bar("two", 0.5, 0.4, 0.55)]
        drawing = forest("Macro-F1", bars)
        assert {"0.8000  [0.7000, 0.9000]", "0.5000  [0.4000, 0.5500]"} <= set(drawing.texts())
        one, two = circles(drawing)
        # The first stands on top; the larger value further to the right.
        assert one.y < two.y
        assert one.x > two.x
        assert (one.kind, two.kind) == ("dot accent", "dot plain")
        assert {"one", "two"} <= set(drawing.texts())

    def test_differences_have_signs_and_a_line_at_0(self) -> None:
        drawing = forest("Differences", [Bar("a → b", -0.01, -0.03, 0.02)], signed=True)
        assert "-0.0100  [-0.0300, +0.0200]" in drawing.texts()
        (zero,) = (t.x for t in drawing.shapes if isinstance(t, Text) and float_of(t.text) == 0)
        lines = [s for s in drawing.shapes if isinstance(s, Polyline) and s.kind == "axis"]
        assert any({x for x, _ in s.points} == {zero} for s in lines)

    def test_a_value_outside_its_interval_is_drawn(self) -> None:
        paint(forest("Macro-F1", [Bar("odd", 0.5, 0.6, 0.7)])).draw_without_rendering()

    def test_every_run_on_the_front_is_named_where_there_is_room(self) -> None:
        runs = [Priced(f"E{i} a name that is long", 3.0**i, 0.7 + i / 50, True) for i in range(4)]
        runs.append(Priced("dear $x$", 30.0, 0.6, False))
        drawing = cost_front("front", runs)
        assert {run.name for run in runs} <= set(drawing.texts())
        assert not [text for text in paint(drawing).axes[0].texts if text.get_parse_math()]

    @pytest.mark.parametrize("costs", [[0.0], [0.0, 0.0], [0.0, 5.0], [1e-6, 1e6]])
    def test_costs_of_any_magnitude_are_drawn(self, costs: list[float]) -> None:
        runs = [Priced(f"run {n}", cost, 0.7 + n / 10, True) for n, cost in enumerate(costs)]
        paint(cost_front("front", runs)).draw_without_rendering()

    def test_confusion_matrices_have_the_same_columns(self, runs: list[str]) -> None:
        comparison = sentikit.compare(runs, resamples=20)
        figures = comparison_figures(comparison)["confusion_matrices"]
        for figure in figures:
            run = comparison.run(figure.caption)
            shown = figure.drawing.texts()
            assert all(shown.count(name) == 2 for name in LABELS)
            count = run.scores.confusion["negative"]["negative"]
            assert {f"{count}", f"{count / 30:.1%}"} <= set(shown)

    def test_each_source_gets_a_panel(self, runs: list[str]) -> None:
        comparison = sentikit.compare(runs, resamples=20)
        figures = comparison_figures(comparison)["sources"]
        assert [figure.caption for figure in figures] == list(comparison.sources)
        assert [figure.note for figure in figures] == ["45 texts", "45 texts"]
        assert len(circles(sheet(figures))) == 0

    def test_reliability_shows_every_bin(self, runs: list[str]) -> None:
        comparison = sentikit.compare(runs, resamples=20)
        for figure in comparison_figures(comparison)["reliability"]:
            known = comparison.run(figure.caption).scores.calibration
            assert known is not None
            assert len(circles(figure.drawing)) == len(known.bins)
            assert figure.note == f"ECE {known.ece:.3f}"

    def test_roc_and_precision_recall_show_a_curve_for_each_class(self, runs: list[str]) -> None:
        comparison = sentikit.compare(runs, resamples=20)
        figures = comparison_figures(comparison)
        for kind, name in (("roc", "auc"), ("precision_recall", "average_precision")):
            assert len(figures[kind]) == 3
            for figure in figures[kind]:
                ranking = comparison.run(figure.caption).scores.ranking
                assert figure.note.endswith(f"{getattr(ranking, name):.4f}")
                assert set(LABELS) <= set(figure.drawing.texts())
                lines = [s for s in figure.drawing.shapes if isinstance(s, Polyline)]
                assert len([s for s in lines if "curve" in s.kind]) == 2 * len(LABELS)

    def test_classes_beyond_the_colours_are_dashed(self) -> None:
        curves = {f"class {n}": [(0.0, 0.0), (1.0, 1.0)] for n in range(9)}
        drawing = class_curves("many", ("x", "y"), curves)
        kinds = {s.kind for s in drawing.shapes if isinstance(s, Polyline) and "curve" in s.kind}
        assert sum("dashed" in kind for kind in kinds) == 4
        lowest = max(s.y for s in drawing.shapes if isinstance(s, Text))
        assert lowest < drawing.height

    def test_figures_on_one_sheet_do_not_overlap(self) -> None:
        panel = forest("one", [Bar("run", 0.5, 0.4, 0.6)])
        drawing = sheet([Figure(f"figure {n}", panel, "note") for n in range(5)])
        dots = circles(drawing)
        assert len({dot.x for dot in dots}) == 3
        assert len({dot.y for dot in dots}) == 2
        assert all(dot.x < drawing.width and dot.y < drawing.height for dot in dots)


def float_of(text: str) -> float | None:
    """Return the number a text is, if it is one."""
    try:
        return float(text)
    except ValueError:
        return None


class TestNames:
    AREA = Box(0, 0, 300, 100)

    def test_labels_in_charts_overlap_neither_labels_nor_points(self) -> None:
        dots = [(150.0 + 3 * n, 50.0 + 2 * n) for n in range(6)]
        spots = place_names(dots, [60.0] * 6, 10.0, [], self.AREA)
        boxes = [spot.box(60, 10) for spot in spots if spot]
        assert len(boxes) >= 3
        assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])
        assert all(self.AREA.holds(box) for box in boxes)
        assert not any(
            box.left < x < box.right and box.top < y < box.bottom for box in boxes for x, y in dots
        )

    def test_labels_in_charts_avoid_lines_if_possible(self) -> None:
        along = Box(100, 50, 300, 50)
        (spot,) = place_names([(100.0, 50.0)], [40.0], 10.0, [along], self.AREA)
        assert spot is not None
        assert not spot.box(40, 10).overlaps(along)

    def test_labels_in_charts_without_room_are_left_out(self) -> None:
        assert place_names([(10.0, 10.0)], [400.0], 10.0, [], self.AREA) == [None]
