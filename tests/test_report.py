"""Reports: one HTML file, safe whatever the texts hold, and readable in a real browser."""

from __future__ import annotations

import html
import html.parser
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import browser, needed_browser
from click.testing import CliRunner
from ensemble_runs import LABELS, encoder_and_llm, sure, write_results
from sentikit.plugins.report import charts
from sentikit.plugins.report.drawing import STYLES, element, style_of, style_sheet, to_svg
from sentikit.plugins.report.figures import comparison_figures
from sentikit.plugins.report.geometry import Scale, around, decimals
from sentikit.plugins.report.page import find_disagreements, to_script

from sentikit.cli.cascade import cascade
from sentikit.cli.compare import compare as compare_command
from sentikit.comparison.comparison import compare
from sentikit.comparison.judgement import Comparison
from sentikit.reports import write_report

HOSTILE = "</script><script>document.title='broken'</script><img src=x onerror=alert(1)> & \"'"


@pytest.fixture
def runs(tmp_path: Path) -> list[str]:
    """Three runs over 90 texts; the third text is hostile, the names are too."""
    paths = []
    for wrong in range(3):
        rows = []
        for i in range(90):
            text = HOSTILE if i == 2 else f"text number {i}"
            label = LABELS[(i + (i % 7 == wrong)) % 3]
            rows.append((text, LABELS[i % 3], label))
        path = tmp_path / f"run<b>{wrong}.jsonl"
        paths.append(write_results(path, rows, [sure(r[2], 0.8) for r in rows], [0.001] * 90))
    return paths


@pytest.fixture
def comparison(runs: list[str]) -> Comparison:
    trained = {path: 1.0 + number for number, path in enumerate(runs)}
    return compare(runs, baseline=runs[0], resamples=200, training_cost=trained)


@pytest.fixture
def page(comparison: Comparison, tmp_path: Path) -> Path:
    write_report(comparison, tmp_path / "report.html")
    return tmp_path / "report.html"


class Reader(html.parser.HTMLParser):
    """Gathers elements and what a page would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.scripts: list[str] = []
        self.styles: list[str] = []
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._inside = tag
        for name, value in attrs:
            if name in ("src", "href", "srcset", "action") and value and value[0] != "#":
                self.addresses.append(value)
            if name == "id":
                self.ids.append(value or "")
            assert not name.startswith("on"), f"{tag} {name}"
            assert name != "style", "the page's policy forbids it"

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts.append(data)
            self._inside = ""
        elif self._inside == "style":
            self.styles.append(data)
            self._inside = ""


class TestFile:
    def test_the_report_needs_no_network(self, page: Path) -> None:
        text = page.read_text(encoding="utf-8")
        found = Reader(text)
        assert found.addresses == ["data:,"]
        assert "@import" not in text
        assert "url(" not in text
        assert "default-src 'none'" in html.unescape(text)
        # The name of a vocabulary, which nobody fetches, is the only address in it.
        assert set(re.findall(r"https?://[^\"'\s<)]+", text)) == {"http://www.w3.org/2000/svg"}

    def test_the_report_shows_all_requested_parts(self, page: Path) -> None:
        found = Reader(page.read_text(encoding="utf-8"))
        sections = ["runs", "intervals", "differences", "cost", "confusion", "sources"]
        sections += ["calibration", "ranking"]
        assert [key for key in found.ids if key in sections] == sections
        assert len(found.ids) == len(set(found.ids))
        # Two forest plots, and two of the bundled metric; a front, three confusion matrices, two
        # sources, three diagrams, and three ROC and three precision-recall panels.
        assert found.tags.count("svg") == 2 + 2 + 1 + 3 + 2 + 3 + 3 + 3
        assert "Differences in QWK" in page.read_text(encoding="utf-8")

    def test_texts_and_names_in_the_report_are_escaped(self, page: Path) -> None:
        text = page.read_text(encoding="utf-8")
        found = Reader(text)
        assert found.tags.count("script") == 2
        assert "img" not in found.tags
        assert "b" not in found.tags
        assert "run&lt;b&gt;0" in text
        data = json.loads(found.scripts[0])
        assert HOSTILE in [row[0] for row in data["rows"]]
        assert "<" not in found.scripts[0]

    def test_the_reports_content_policy_allows_only_its_own_script(self, page: Path) -> None:
        import base64
        import hashlib

        text = page.read_text(encoding="utf-8")
        found = Reader(text)
        for content in (found.scripts[1], found.styles[0]):
            digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
            assert f"sha256-{digest}" in text
        assert "unsafe" not in text.split("<style>")[0]

    def test_equal_comparisons_give_identical_reports(
        self, comparison: Comparison, tmp_path: Path
    ) -> None:
        pages = []
        for name in ("one.html", "two.html"):
            write_report(comparison, tmp_path / name)
            text = (tmp_path / name).read_text(encoding="utf-8")
            pages.append(re.sub(r"Made by [^<]*", "", text))
        assert pages[0] == pages[1]

    def test_a_report_of_one_run_without_costs_or_sources_is_written(self, tmp_path: Path) -> None:
        rows = [(f"text {i}", LABELS[i % 3], LABELS[(i * i) % 3]) for i in range(12)]
        path = tmp_path / "only.csv"
        lines = ["text,gold,label", *(",".join(row) for row in rows)]
        path.write_text("\n".join(lines) + "\n")
        write_report(compare([str(path)], resamples=50), tmp_path / "report.html")
        text = (tmp_path / "report.html").read_text(encoding="utf-8")
        assert "What the runs cost is not known" in text
        assert 'id="sources"' not in text

    def test_a_cascades_report_shows_its_curve(self, tmp_path: Path) -> None:
        encoder, llm = encoder_and_llm(tmp_path)
        report = tmp_path / "report.html"
        arguments = [encoder, llm, "--threshold", "0.55", "--report", str(report)]
        result = CliRunner().invoke(cascade, arguments, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        text = report.read_text(encoding="utf-8")
        assert 'class="band"' in text
        assert "33.3%" in text
        assert "--training-cost of sentikit compare says it" in text

    @pytest.mark.parametrize("name", ["notes.yaml", "manifest.json", "report"])
    def test_the_report_never_overwrites_another_kind_of_file(
        self, tmp_path: Path, name: str
    ) -> None:
        (tmp_path / name).write_text("mine")
        words = [*encoder_and_llm(tmp_path), "--report", str(tmp_path / name)]
        for command in (cascade, compare_command):
            result = CliRunner().invoke(command, words)
            assert result.exit_code == 2
            assert "ends in .html" in result.stderr
        assert (tmp_path / name).read_text() == "mine"

    def test_the_report_of_an_augmented_run_shows_follow_rate_and_gap(self, tmp_path: Path) -> None:
        pairs = [(LABELS[i % 3], LABELS[(i + (i % 4 == 0)) % 3]) for i in range(60)]
        lines = ["review,classification,prediction,match,classifier_decision,source"]
        for i, (gold, own) in enumerate(pairs):
            lines.append(f"text {i},{gold},{own},{gold == own},{own},yelp")
        (tmp_path / "shown.csv").write_text("\n".join(lines) + "\n")
        alone = [(f"text {i}", gold, gold) for i, (gold, _) in enumerate(pairs)]
        runs = [str(tmp_path / "shown.csv"), write_results(tmp_path / "alone.jsonl", alone)]
        write_report(compare(runs, resamples=50), tmp_path / "report.html")
        text = (tmp_path / "report.html").read_text(encoding="utf-8")
        assert 'id="partners"' in text
        assert "against alone" in text
        # It follows always: nothing was changed to the better, a quarter to the worse.
        assert "<td>100.0%</td><td>100.0%</td><td>100.0%</td><td>0.0%</td>" in text
        assert "<td>0</td><td>15</td>" in text


class TestDisagreements:
    def test_the_report_lists_only_texts_on_which_runs_differ(self, comparison: Comparison) -> None:
        found = find_disagreements(comparison.aligned)
        # Of each seven texts, three have one run apart.
        assert found.total == sum(i % 7 < 3 for i in range(90))
        assert all(len(set(row[3])) > 1 for row in found.data["rows"])

    def test_many_disagreements_are_thinned_evenly_with_a_note(
        self, comparison: Comparison
    ) -> None:
        found = find_disagreements(comparison.aligned, most=10)
        assert len(found.data["rows"]) == 10
        assert found.note.startswith("10 of the 39 texts")
        assert found.rows[0] == 0
        assert found.rows[-1] > 80

    def test_long_texts_in_the_report_are_truncated(self, tmp_path: Path) -> None:
        rows = [("long " * 10_000 + str(i), "neutral", LABELS[i % 2]) for i in range(4)]
        one = write_results(tmp_path / "one.jsonl", rows)
        other = write_results(tmp_path / "two.jsonl", [(t, g, "positive") for t, g, _ in rows])
        found = find_disagreements(compare([one, other], resamples=20).aligned)
        assert all(len(row[0]) < 2100 and row[0].endswith("[…]") for row in found.data["rows"])

    def test_the_reports_embedded_data_survive_any_character(self) -> None:
        data = {"rows": [[f"{HOSTILE} \u2028 \x00 😀 -->", 0, -1, [0]]]}
        written = to_script(data)
        assert json.loads(written) == data
        assert not set("<>&") & set(written)


class TestDrawing:
    def test_drawing_escapes_text_but_not_markup(self) -> None:
        inner = element("b", "<i>", class_="x")
        assert inner == '<b class="x">&lt;i&gt;</b>'
        assert element("p", inner) == '<p><b class="x">&lt;i&gt;</b></p>'
        assert element("a", title='"><script>') == '<a title="&#34;&gt;&lt;script&gt;"></a>'

    def test_every_class_used_in_drawings_has_a_style(self, comparison: Comparison) -> None:
        figures = comparison_figures(comparison)
        shapes = [s for own in figures.values() for f in own for s in f.drawing.shapes]
        words = {word for shape in shapes for word in shape.kind.split()}
        assert words <= set(STYLES)
        assert all(f".{word} " in style_sheet() for word in words)

    def test_a_dashed_curve_keeps_the_colour_of_its_class(self) -> None:
        assert style_of("curve second dashed").color == "second"
        assert style_of("curve second dashed").dashed

    def test_scales_of_charts_have_round_ticks(self) -> None:
        scale = Scale(0.0, 10.0, 100.0, 200.0)
        assert (scale(0), scale(5), scale(10), scale(99)) == (100, 150, 200, 200)
        assert Scale(1, 100, 0, 1, logarithmic=True)(10) == pytest.approx(0.5)
        assert Scale(0.78, 0.88, 0, 1).ticks(5) == [0.78, 0.80, 0.82, 0.84, 0.86, 0.88]
        assert Scale(0.2, 40, 0, 1, logarithmic=True).ticks() == [0.2, 0.5, 1, 2, 5, 10, 20]
        low, high = around([0.5, 0.5])
        assert low < 0.5 < high
        assert decimals([0.775, 0.8]) == 3

    @pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
    def test_a_single_bar_fits_its_chart(self, value: float) -> None:
        drawn = charts.forest("one", [charts.Bar("run", value, value, value)])
        assert "nan" not in to_svg(drawn)

    def test_free_runs_are_drawn_on_the_cost_front(self) -> None:
        runs = [charts.Priced("free", 0.0, 0.7, True), charts.Priced("dear", 5.0, 0.8, True)]
        drawn = charts.cost_front("front", runs)
        assert "free" in drawn.texts()
        assert "nan" not in to_svg(drawn)

    def test_the_cost_front_works_if_all_runs_are_free(self) -> None:
        drawn = charts.cost_front("front", [charts.Priced("free", 0.0, 0.7, True)])
        assert "nan" not in to_svg(drawn)

    def test_invalid_answers_have_a_column_in_the_confusion_matrix(self) -> None:
        counts = {"a": {"a": 3, "b": 1, "invalid": 2}, "b": {"a": 0, "b": 4, "invalid": 0}}
        assert "invalid" in charts.confusion("matrix", counts).texts()


@pytest.mark.slow
class TestInChromium:
    """What a reader sees, in a real browser."""

    @pytest.fixture
    def started(self, page: Path, tmp_path: Path) -> Iterator[Any]:
        needed_browser()
        with browser(tmp_path / "profile") as started:
            started.get(page.as_uri())
            yield started

    def count(self, started: Any) -> int:
        shown = started.execute_script("return document.getElementById('count').textContent")
        return int(shown.split()[0])

    def choose(self, started: Any, **filters: str) -> int:
        script = """
            const form = document.getElementById('filters');
            form.reset();
            for (const [name, value] of Object.entries(arguments[0])) {
              form.elements[name].value = value;
            }
            form.dispatchEvent(new Event('input'));"""
        started.execute_script(script, filters)
        return self.count(started)

    def test_the_report_renders_in_chromium_without_errors_or_requests(self, started: Any) -> None:
        assert "3 runs compared" in started.title
        assert started.get_log("browser") == []
        heights = "[...document.querySelectorAll('svg')].map(s => s.getBoundingClientRect().height)"
        sizes = started.execute_script(f"return {heights}")
        assert len(sizes) == 19
        assert min(sizes) > 100
        asked = [
            json.loads(entry["message"])["message"] for entry in started.get_log("performance")
        ]
        urls = [
            entry["params"]["request"]["url"]
            for entry in asked
            if entry["method"] == "Network.requestWillBeSent"
            and entry["params"]["documentURL"].startswith("file:")
        ]
        # The browser may have pages of its own open; this one asks for itself alone.
        assert len(urls) >= 1
        assert all(url.startswith(("file:", "data:")) for url in urls), urls

    def test_the_reports_filters_and_paging_work_in_chromium(self, started: Any) -> None:
        assert self.count(started) == 39
        shown = "return document.querySelectorAll('#found > li').length"
        assert started.execute_script(shown) == 25
        started.find_element("id", "more").click()
        assert started.execute_script(shown) == 39
        assert started.execute_script("return document.getElementById('more').hidden")
        wrong = [i for i in range(90) if i % 7 == 1]
        assert self.choose(started, run="run<b>1", outcome="wrong") == len(wrong)
        assert self.choose(started, run="run<b>1") == len(wrong)
        halves = [self.choose(started, source=name) for name in ("s0", "s1")]
        assert sum(halves) == 39
        assert min(halves) > 0
        golds = [self.choose(started, label=name) for name in LABELS]
        assert sum(golds) == 39
        both = self.choose(started, label="neutral", source="s0")
        assert both == sum(i % 7 < 3 and i % 3 == 1 and i % 2 == 0 for i in range(90))
        assert self.choose(started, text="number 36") == 1
        assert self.choose(started, text="nowhere to be found") == 0

    def test_a_script_in_a_review_is_shown_as_text(self, started: Any) -> None:
        assert self.choose(started, text="onerror") == 1
        shown = started.find_element("css selector", "#found > li p").text
        assert shown == HOSTILE
        assert "broken" not in started.title
        assert started.execute_script("return document.querySelectorAll('#found img').length") == 0
        assert started.get_log("browser") == []

    def test_the_report_has_dark_and_light_themes(self, started: Any) -> None:
        def background() -> str:
            script = "return getComputedStyle(document.body).backgroundColor"
            return str(started.execute_script(script))

        light, button = background(), started.find_element("id", "theme")
        assert button.text == "Dark"
        button.click()
        assert background() != light
        assert button.text == "Light"
        button.click()
        assert background() == light

    def test_the_report_fits_a_phone_in_dark_mode(self, page: Path, tmp_path: Path) -> None:
        with browser(tmp_path / "profile", width=375, height=800, dark=True) as started:
            started.get(page.as_uri())
            widths = "return [document.documentElement.scrollWidth, innerWidth]"
            assert started.execute_script(widths) == [375, 375]
            background = "return getComputedStyle(document.body).backgroundColor"
            assert started.execute_script(background) == "rgb(20, 23, 26)"
            assert started.get_log("browser") == []

    def test_the_report_prints(self, started: Any) -> None:
        printed = started.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})
        assert len(printed["data"]) > 10_000
        started.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
        shown = "return getComputedStyle(document.querySelector('nav')).display"
        assert started.execute_script(shown) == "none"
