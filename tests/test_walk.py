"""The modules that one review passes in `sentikit predict runs/cascade`."""

from __future__ import annotations

import inspect
import json
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType

import pytest
from click.testing import CliRunner
from ensemble_recipes import UNSURE, write_ensembles, write_recipe
from llm_fixtures import serving

import sentikit as package
from sentikit.cli import sentikit

CORE = Path(package.__file__).parent
GENERATORS = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
#: The most modules that a row passes, how often it goes from one to another, and how often it
#: enters the same one, in all threads together. May fall.
MODULES, HOPS, ENTRIES = 18, 34, 4
MODULES_UNASKED, HOPS_UNASKED, ENTRIES_UNASKED = 7, 13, 2
#: Modules that a row of an LLM enters more than twice: in two threads, or to add the tokens of each
#: call and of the row.
OFTEN = {"chat", "llm/requests/loop"}


def module_of(code: CodeType) -> str | None:
    """Return a core module's name; what else runs does not count."""
    path = Path(code.co_filename)
    inside = path.is_relative_to(CORE) and not path.is_relative_to(CORE / "plugins")
    return path.relative_to(CORE).with_suffix("").as_posix() if inside else None


@contextmanager
def watched() -> Iterator[Counter[tuple[str, str]]]:
    """Count how often a call in one thread enters a module from another; a generator once."""
    hops: Counter[tuple[str, str]] = Counter()
    last: dict[int, str] = {}
    begun: set[FrameType] = set()

    def note(frame: FrameType, event: str, argument: object) -> None:
        module = module_of(frame.f_code) if event == "call" else None
        if module is None or frame in begun:
            return
        if frame.f_code.co_flags & GENERATORS:
            begun.add(frame)
        thread = threading.get_ident()
        if last.get(thread, module) != module:
            hops[last[thread], module] += 1
        last[thread] = module

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield hops
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def walk(first: int, rows: int) -> Counter[tuple[str, str]]:
    """Return the hops of `predict` over so many rows of the test file, from a row on."""
    lines = Path("test.csv").read_text().splitlines()[1 + first :][:rows]
    Path("new.csv").write_text("\n".join(["text", *(line.rsplit(",", 1)[0] for line in lines)]))
    for kept in (*Path().rglob("answers.sqlite*"), Path("out.csv")):
        kept.unlink(missing_ok=True)
    words = ["predict", "runs/cascade", "new.csv", "--output", "out.csv"]
    with watched() as hops:
        done = CliRunner().invoke(sentikit, words)
    assert done.exit_code == 0, done.output
    return hops


@pytest.fixture
def cascade(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A finished cascade over a server, without the estimate before it."""
    monkeypatch.setattr("sentikit.labelling.job.say_estimate", lambda *given: None)
    with serving() as s:
        write_ensembles(s.url)
        asked = json.loads(Path("asked.yaml").read_text())
        write_recipe("asked", asked | {"llm": asked["llm"] | {"in_flight": 1}})
        run = ["cascade", "--recipe", "cascade.yaml", "--output", "runs/cascade"]
        assert CliRunner().invoke(sentikit, run).exit_code == 0
        yield


@pytest.mark.parametrize(
    ("first", "most_modules", "most_hops", "most_entries"),
    [
        (0, MODULES, HOPS, ENTRIES),
        (UNSURE, MODULES_UNASKED, HOPS_UNASKED, ENTRIES_UNASKED),
    ],
    ids=["asked", "not asked"],
)
@pytest.mark.usefixtures("cascade")
def test_labelling_one_row_enters_no_more_modules_than_recorded(
    first: int, most_modules: int, most_hops: int, most_entries: int
) -> None:
    walk(first, 4)  # The first rows import and cache.
    few, many = walk(first, 4), walk(first, 14)
    many.subtract(few)
    # Steps that every row takes; occasional ones, such as commits, do not count.
    steps = {hop: round(count / 10) for hop, count in many.items() if count >= 8}
    modules = {module for hop in steps for module in hop}
    assert len(modules) <= most_modules, sorted(modules)
    assert sum(steps.values()) <= most_hops, steps
    entries: Counter[str] = Counter()
    for (_, module), count in steps.items():
        entries[module] += count
    assert max(entries.values()) <= most_entries, entries
    assert {module for module, count in entries.items() if count > 2} <= OFTEN, entries
