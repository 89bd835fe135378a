"""Runs the whole prompting pipeline in a test, from a recipe's sections to a run's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sentikit.llm.asking import label_reader, questions
from sentikit.llm.briefing import brief
from sentikit.llm.parts import PromptParts, prompt_parts
from sentikit.llm.requests.job import RequestJob, answer_questions
from sentikit.llm.requests.progress import RequestReporter
from sentikit.llm.results import FinishedPrompting, ResultWriter, begin_run
from sentikit.llm.split import split_to_label
from sentikit.recipe.resolving import resolve_values
from sentikit.registry import default_registry
from sentikit.runs.folder import RunFolder


def make_parts(**sections: Any) -> PromptParts:
    """Make the parts of a recipe of kind prompt."""
    recipe = resolve_values({"kind": "prompt", **sections}, "own", "the test")
    return prompt_parts(recipe, default_registry())


def run_prompts(parts: PromptParts, folder: Path, limit: int | None = None) -> FinishedPrompting:
    """Label a recipe's split and leave a run."""
    folder.mkdir(parents=True)
    run, split = RunFolder(folder), split_to_label(parts, limit)
    briefing = brief(parts, split, default_registry(), keep=folder / "encoder.npz")
    begin_run(run, parts, split, resume=False, run_id=folder.name, limit=limit)
    total = len(split.examples)
    job = RequestJob(folder.name, total, folder / "answers.sqlite", parts.llm_options)
    with RequestReporter(total) as reporter, ResultWriter(run, parts, split) as writer:
        asked = questions(parts, split, briefing)
        answer_questions(parts.llm, asked, label_reader(parts), writer.add, job, reporter)
    return writer.finish()
