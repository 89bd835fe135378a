"""Memory of `predict` with a cascade: the peak at 10,000 and at 1,000,000 rows.

The first member is sure of nineteen texts in twenty; the last is an LLM whose backend answers in
this process, slowly, and fails at one text in ten.

    python benchmarks/predict_memory.py [ROWS]...
"""

from __future__ import annotations

import asyncio
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from sentikit import Classifier, Example, InputError, LabelScheme, Prediction
from sentikit.extension import Answer, ChatRequest, LLMBackend, RejectedError, Usage

LABELS = ("negative", "neutral", "positive")
SECONDS = 0.001


class Sure(Classifier):
    """A classifier that is sure of all texts but every twentieth."""

    @property
    def scheme(self) -> LabelScheme:
        """Three classes."""
        from sentikit.datasets.labels import label_scheme

        return label_scheme("neg_neu_pos")

    def classify(
        self, examples: Iterable[str | Example], session: Any = None
    ) -> Iterator[Prediction]:
        """Yield ``neutral`` with high or low confidence."""
        for number, _ in enumerate(examples):
            top = 0.5 if number % 20 == 0 else 0.98
            rest = (1 - top) / 2
            yield Prediction("neutral", dict(zip(LABELS, (rest, top, rest), strict=True)))


class Slow(LLMBackend):
    """A backend that answers after a millisecond and fails at one text in ten."""

    model = "stub"
    billed = False
    most_in_flight = 64

    def canonical(self, request: ChatRequest) -> dict[str, str]:
        """Return the text."""
        return {"text": request.text}

    async def ask(self, request: ChatRequest) -> Answer:
        """Answer ``positive``, or fail."""
        await asyncio.sleep(SECONDS)
        # One in ten of the rows it is asked about.
        if int(request.text.split()[-1]) % 200 == 0:
            raise RejectedError("It is one in ten.")
        return Answer("positive", Usage(20, 0, 1))


def label(rows: int) -> dict[str, Any]:
    """Label a file in this process and print time and memory."""
    from sentikit.classifiers.cascade import Cascade
    from sentikit.datasets.tables import InputFile
    from sentikit.labelling.file_job import label_file
    from sentikit.labelling.job import LabellingOptions
    from sentikit.llm.classifier import LLMClassifier
    from sentikit.llm.context import ContextSource
    from sentikit.llm.recipe import prompt_components
    from sentikit.recipe.resolving import resolve_values
    from sentikit.registry import default_registry

    with Path("in.csv").open("w") as stream:
        stream.write("number,text\n")
        stream.writelines(f"{n},this is the review of number {n}\n" for n in range(rows))
    recipe = {
        "kind": "prompt",
        "dataset": {"name": "demo"},
        "llm": {"backend": "replay", "run": "none.csv", "cache": "answers.sqlite"},
    }
    parts = prompt_components(resolve_values(recipe, "stub", "the benchmark"), default_registry())
    object.__setattr__(parts, "llm", Slow(Slow.Settings()))
    llm = LLMClassifier(parts, ContextSource(LABELS))
    cascade = Cascade({"encoder": Sure(), "llm": llm}, [0.9])
    source, began = InputFile("in.csv"), time.monotonic()
    with source.open() as table:
        done = label_file(cascade, source, table, Path("out.csv"), "csv", LabellingOptions())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "rows": done.totals.rows,
        "asked": done.totals.answers,
        "failed": done.totals.failed,
        "seconds": round(time.monotonic() - began, 1),
        "peak_mib": round(peak, 1),
    }


def main() -> None:
    """Measure each number of rows in a separate process."""
    if sys.argv[1:2] == ["--label"]:
        print(json.dumps(label(int(sys.argv[2]))))
        return
    sizes = [int(size) for size in sys.argv[1:]] or [10_000, 1_000_000]
    if min(sizes) < 1:
        raise InputError("Give numbers of rows.")
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, str(Path(__file__).resolve()), "--label", str(size)]
            done = subprocess.run(
                command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True
            )
            print(done.stdout.strip())


if __name__ == "__main__":
    main()
