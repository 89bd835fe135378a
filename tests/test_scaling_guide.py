"""docs/scaling.md: its commands parse, and its table is what ``--dry-run`` says."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from sentikit.cli import sentikit
from sentikit.llm.prices import model_facts
from sentikit.recipe.resolving import resolve_recipe
from sentikit.registry import default_registry
from sentikit.training.job import plan_training
from sentikit.training.recipe import train_components

GUIDE = Path(__file__).resolve().parents[1] / "docs" / "scaling.md"

pytestmark = pytest.mark.skipif(not GUIDE.is_file(), reason="this is no checkout")


def commands() -> Iterator[list[str]]:
    """Yield the words of every command in the guide."""
    for block in re.findall(r"^```sh\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            if not line.startswith("#"):
                yield shlex.split(line)


def sentikit_words(words: list[str]) -> list[str]:
    """Return what sentikit gets of a launcher's command; the launcher must understand the rest."""
    launcher, *rest = words
    if launcher == "sentikit":
        return rest
    if launcher == "srun":
        assert rest[0] == "sentikit"
        return rest[1:]
    if launcher == "torchrun":
        from torch.distributed.run import get_args_parser

        understood = get_args_parser().parse_args(rest)
        assert understood.module
        assert understood.training_script == "sentikit"
        return list(understood.training_script_args)
    assert launcher == "deepspeed"
    runner = pytest.importorskip("deepspeed.launcher.runner")
    understood = runner.parse_args(rest)
    assert understood.module
    assert understood.user_script == "sentikit"
    return list(understood.user_args)


@pytest.mark.parametrize("words", list(commands()), ids=lambda words: " ".join(words)[:60])
def test_every_command_of_the_scaling_guide_parses(words: list[str]) -> None:
    name, *arguments = sentikit_words(words)
    group = click.Context(sentikit)
    command = sentikit.get_command(group, name)
    assert command is not None
    context = command.make_context(name, arguments, parent=group)
    recipe = context.params.get("recipe")
    if recipe:
        resolve_recipe(recipe, context.params["settings"], default_registry())


def test_the_slurm_script_of_the_scaling_guide_is_valid() -> None:
    lines = [line for line in GUIDE.read_text().splitlines() if line.startswith("#SBATCH")]
    assert len(lines) > 5
    assert all(re.fullmatch(r"#SBATCH --[a-z-]+(=\S+)?", line) for line in lines)


@pytest.mark.parametrize(("recipe", "column"), [("electra-base", -2), ("electra-large", -1)])
def test_the_memory_table_equals_the_dry_run(recipe: str, column: int) -> None:
    registry = default_registry()
    settings = ["engine.name=deepspeed", "dataset={name: demo}"]
    plan = plan_training(train_components(resolve_recipe(recipe, settings, registry), registry), 8)
    rows = re.findall(r"^\| (stage \d).*$", GUIDE.read_text(), re.MULTILINE)
    assert rows == list(plan.memory)
    for stage, need in plan.memory.items():
        (row,) = re.findall(rf"^\| {stage}.*\|$", GUIDE.read_text(), re.MULTILINE)
        assert row.strip("|").split("|")[column].strip() == f"{need.total / 2**20:,.0f}"


def test_zero_stages_divide_the_training_state_among_processes() -> None:
    """Zero on eight processes: the parts add up to the whole and ZeRO's copy of it."""
    from sentikit.training.engine import ModelSize

    engine_class = default_registry().load("register_engines", "deepspeed")
    engine = engine_class(engine_class.Settings())
    size = ModelSize(parameters=800, trained=400, moments=2)
    one, eight = (engine.memory(size, processes) for processes in (1, 8))
    whole = 4 * (800 + 400 + 2 * 400)
    assert one["stage 0"] == eight["stage 0"]
    assert one["stage 0"].total == whole
    for stage in ("stage 1", "stage 2", "stage 3"):
        assert one[stage].total - one[stage].buffers == whole + 4 * 400
    parts = eight["stage 3"]
    assert 8 * (parts.total - parts.buffers) == whole + 4 * 400


def table_rows(header: str) -> list[list[str]]:
    """Return the cells of the guide's table that begins with `header`."""
    table = GUIDE.read_text().split(header)[1].split("\n\n")[0]
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]
    ]


def numbers(text: str) -> list[float]:
    return [float(found.replace(",", "")) for found in re.findall(r"\d[\d,]*\.?\d*", text)]


def test_the_hours_and_costs_of_a_billion_texts_follow_from_the_measured_rates() -> None:
    benchmarks = GUIDE.with_name("benchmarks.md").read_text()
    (row,) = [line for line in benchmarks.splitlines() if "no cuDNN attention" in line]
    pieces = [float(number.replace(",", "")) for number in re.findall(r"\d[\d,]{6,}", row)]
    (length,) = numbers(benchmarks.split("texts have the lengths of")[1].split("word pieces")[0])
    texts, seconds = numbers(GUIDE.read_text().split("MiniLM over one file of")[1])[:2]
    assert f"{length} word pieces" in GUIDE.read_text()
    measured = [*(rate / length for rate in pieces), texts / seconds]
    rows = table_rows("| classifier | hardware |")
    assert len(rows) == len(measured) == 3
    for rate, (_, _, shown, hours, cost) in zip(measured, rows, strict=True):
        assert numbers(shown) == [round(rate)]
        duration = 1e9 / rate / 3600
        assert numbers(hours)[0] == pytest.approx(duration, rel=0.02)
        paid, hourly = numbers(cost)
        assert paid == round(duration * hourly)
        assert f"${hourly:g}" in GUIDE.read_text().replace(cost, "", 1)


def test_the_cost_of_a_billion_texts_by_cascade_share_follows_from_the_price_list() -> None:
    text = " ".join(GUIDE.read_text().split())
    prompt, answer = numbers(text.split("a prompt of")[1].split(" cost ")[0])
    prices = model_facts("gpt-4o-mini").prices
    assert prices is not None
    assert f"${prices.prompt:.2f} per million input" in text
    each = (prompt * prices.prompt + answer * prices.completion) / 1e6
    assert f"= ${each:.7f}" in text
    rows = table_rows("| share sent to the LLM |")
    assert len(rows) == 4
    for share, cost in rows:
        assert numbers(cost) == [round(1e9 * each * numbers(share)[0] / 100)]
