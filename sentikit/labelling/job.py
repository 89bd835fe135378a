"""The labelling job: classifies rows in one session, into a run or a file."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from sentikit.chat import ChatRequest, Usage
from sentikit.classifiers.classifier import Classifier, Example
from sentikit.classifiers.prediction import Prediction
from sentikit.datasets.labels import absence_warnings
from sentikit.errors import InputError
from sentikit.files import read_json
from sentikit.keys import redacted
from sentikit.labelling.rows import LabellingOptions, predicted
from sentikit.llm.classifier import DEFAULT_CACHE, language_models
from sentikit.llm.prices import model_facts, plain_usd, recorded_models_warnings, usd
from sentikit.llm.requests.batches import BATCH_TIER
from sentikit.llm.requests.budget import Amount
from sentikit.llm.requests.calls import LLMMember
from sentikit.llm.requests.progress import RequestReporter
from sentikit.llm.session import CACHE, RequestSession
from sentikit.llm.settings import Limits, RequestOptions
from sentikit.recipe.resolving import differing_keys
from sentikit.runs import folder as run_folder
from sentikit.runs.folder import JsonLinesLog, LabelledSplit, RunFolder
from sentikit.runs.recorded import RecordedClassifier
from sentikit.runs.writer import FinishedRun, Row, RunPlan, RunWriter, SplitRows
from sentikit.stopping import Interrupted
from sentikit.terminal import usd_text
from sentikit.tracking import TrackedRun, Tracker, TrackerGroup, scores_line

#: Folder of batch files in a run's folder.
BATCHES = "batches"
#: Number of rows from which the cost of a job is estimated.
_SAMPLE = 300
#: Seconds between two updates of the progress bar without LLMs.
_SHOWN_EVERY = 0.2


#: Receives an example with its gold label and its prediction.
Sink = Callable[[Example, str | None, Prediction], None]


def _path_from(folder: Path, file: Path) -> str:
    """Return a file's path relative to a folder; absolute if drives differ (Windows)."""
    try:
        return os.path.relpath(file, folder)
    except ValueError:
        return os.path.abspath(file)


def label_rows(
    classifier: Classifier, rows: Iterable[Row], sink: Sink, session: RequestSession
) -> None:
    """Classify rows, which can be iterated several times, and pass the results to `sink`."""
    if session.batch_folder is not None:
        models = len(language_models(classifier))
        session.fill_by_batches(lambda: deque(predicted(classifier, rows, session), 0), models)
    session.reporter.rows, shown = 0, time.monotonic()
    for row, prediction in predicted(classifier, rows, session):
        sink(row.example, row.gold, prediction)
        session.reporter.rows += 1
        # With LLMs, the request loops update the progress bar.
        if time.monotonic() - shown > _SHOWN_EVERY and not session.members:
            session.reporter.update(session.tally, 0)
            shown = time.monotonic()


#: A generous count of the tokens that ask again after an invalid answer.
_REPAIR_TOKENS = 64


@dataclass(frozen=True)
class Estimate:
    """Token counts and costs; the costs are None where the price is unknown.

    ``most_usd`` is the cost if every answer reaches the token limit and every one is repaired.
    """

    model: str
    requests: int
    cached: int
    repeated: int
    prompt_tokens: int
    completion_tokens: int
    exact: bool
    longest_prompt: int
    longest_id: str
    context: int | None
    expected_usd: float | None
    most_usd: float | None
    prices_as_of: str | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def to_text(self) -> str:
        about = "" if self.exact else "about "
        again = f", {self.repeated:,} repeated" if self.repeated else ""
        lines = [
            f"Model              {self.model}",
            f"Requests           {self.requests:,} ({self.cached:,} more in the cache{again})",
            f"Prompt tokens      {about}{self.prompt_tokens:,}",
            f"Completion tokens  about {self.completion_tokens:,}",
            f"Longest prompt     {about}{self.longest_prompt:,} tokens (example {self.longest_id})",
            f"Cost               {self._cost()}",
        ]
        if self.context is not None and self.longest_prompt > self.context:
            lines.append(f"Too long           the model holds {self.context:,} tokens")
        return "\n".join(lines)

    def _cost(self) -> str:
        if self.expected_usd is None or self.most_usd is None:
            return "unknown: set the model's prices, llm.prices.prompt and llm.prices.completion"
        expected, most = usd_text(self.expected_usd), usd_text(self.most_usd)
        dated = f" (prices of {self.prices_as_of})" if self.prices_as_of else ""
        return f"about ${expected}, at most ${most}{dated}"


class EstimateCollector:
    """Counts the requests to one LLM instead of sending them."""

    def __init__(self, member: LLMMember, batch: bool = False) -> None:
        self._backend, self._options = member.backend, member.options
        self._prices, self._counter = member.pricing.prices, member.pricing.counter
        self._tier = BATCH_TIER if batch else member.backend.service_tier
        self.known = self._repeated = 0
        self._seen: set[bytes] = set()
        self._usage, self._most = Usage(), Amount()
        self._longest = (0, "")

    async def begin(self) -> None:
        """Do nothing: an estimate waits for no batch."""

    def add(self, row: int, key: bytes, request: ChatRequest, sent: Mapping[str, Any]) -> None:
        if key in self._seen:
            self._repeated += 1
            return
        self._seen.add(key)
        tokens = self._counter.request(request, sent)
        label = max(self._counter.count(json.dumps({"label": name})) for name in request.labels)
        self._usage += Usage(tokens.expected, 0, request.expected_tokens + label)
        self._add_worst(tokens.most, request, self._tier)
        if self._options.repair:
            # Repairs are live calls even after a batch; they add the answer and a question.
            longer = tokens.most + request.max_tokens + _REPAIR_TOKENS
            self._add_worst(longer, request, self._backend.service_tier)
        self._longest = max(self._longest, (tokens.expected, request.example_id))

    def _add_worst(self, prompt: int, request: ChatRequest, tier: str | None) -> None:
        prices = self._prices
        self._most.add(None if prices is None else prices.worst(prompt, request.max_tokens, tier))

    def estimate(self) -> Estimate:
        prices, backend = self._prices, self._backend
        facts = model_facts(backend.model, provider=backend.provider)
        expected = prices.cost(self._usage, self._tier) if prices else None
        dated = facts.as_of is not None and self._options.prices is None
        return Estimate(
            model=backend.model,
            requests=len(self._seen),
            cached=self.known,
            repeated=self._repeated,
            prompt_tokens=self._usage.prompt,
            completion_tokens=self._usage.completion,
            exact=self._counter.exact,
            longest_prompt=self._longest[0],
            longest_id=self._longest[1],
            context=facts.context,
            expected_usd=plain_usd(expected),
            most_usd=plain_usd(self._most.known) if prices else None,
            prices_as_of=facts.as_of.isoformat() if facts.as_of and dated else None,
        )


def estimate(
    classifier: Classifier,
    rows: Iterable[Row],
    cache: Path,
    batch: bool = False,
    known: dict[int, Any] | None = None,
) -> list[Estimate]:
    """Estimate the cost of each LLM of a classifier, without sending or writing anything.

    `known` receives the results of encoders.
    """
    found: list[EstimateCollector] = []

    def collector(member: LLMMember) -> EstimateCollector:
        found.append(EstimateCollector(member, batch))
        return found[-1]

    with RequestSession("", cache) as session:
        session.known = known
        session.collect(collector)
        deque(predicted(classifier, rows, session), maxlen=0)
    return [counted.estimate() for counted in found]


def say_estimate(
    classifier: Classifier,
    rows: Iterable[Row],
    total: int,
    session: RequestSession,
    batch: bool = False,
) -> None:
    """Show the estimated cost of the LLMs, from rows spread over the data.

    LLMs without cost or with an unknown price are left out.
    """
    if not any(model.components.llm.billed for model in language_models(classifier)):
        return
    step = max(1, total // _SAMPLE)
    sample = list(islice(islice(rows, 0, None, step), _SAMPLE))
    share = total / max(1, len(sample))
    session.known = {}
    for found in estimate(classifier, sample, session.cache, batch, session.known):
        if not found.most_usd or found.expected_usd is None:
            continue
        calls = found.requests * share
        expected, most = (usd_text(v * share) for v in (found.expected_usd, found.most_usd))
        of_rows = f", estimated from {len(sample):,} of {total:,} rows" if step > 1 else ""
        session.reporter.say(
            f"{found.model}: about {calls:,.0f} requests for about ${expected}, at most "
            f"${most}{of_rows}."
        )


class RunSteps:
    """The further steps of a kind of run; by default none."""

    def begin(self, session: RequestSession) -> Classifier | None:
        """Run before the rows; return the classifier if it is only known now."""

    def add(
        self, writer: RunWriter, example: Example, gold: str | None, prediction: Prediction
    ) -> None:
        writer.add(example, gold, prediction)

    def results(self) -> dict[str, Any]:
        """Return the arguments of `RunWriter.finish`, after all rows."""
        return {}


def label_run(
    classifier: Classifier,
    run: RunFolder | None,
    plan: RunPlan,
    options: LabellingOptions,
    cache: Path | None = None,
    trackers: Mapping[str, Tracker] | None = None,
    steps: RunSteps | None = None,
) -> FinishedRun:
    """Label a split and save the run in `run`, which the caller has locked.

    Without `run`, only `cache`, the file of answers, is written; by default it is
    ``answers.sqlite`` beside the run. `steps` are the further steps of this kind of run.
    """
    steps = steps or RunSteps()
    identity, changed = uuid.uuid4().hex, list[str]()
    if run and options.resume:
        members = plan.manifest.get("members")
        changed = refuse_changed(run, plan.recipe, plan.split, members, plan.kind == "prompt")
        identity = str(run.manifest.get("run_id", ""))
    total, rows = len(plan.split.examples), SplitRows(plan.split)
    reporter = RequestReporter(total)
    beside = run.path.resolve().parent / CACHE if run else DEFAULT_CACHE
    session = RequestSession(
        identity,
        cache or beside,
        Limits(options.max_cost, options.failure_limit, total),
        reporter,
        options.stop_requested,
        run.path / BATCHES if run and options.batch else None,
    )
    with RunWriter(run, plan) as writer, ExitStack() as stack:
        stack.enter_context(session)
        try:
            classifier.prepare(session)
        except Interrupted as stopped:
            stopped.resumable = options.resume
            raise
        gold = plan.split.examples.values("label")
        names = plan.split.split, plan.split.classes
        warned = absence_warnings(*names, gold, from_recipe=plan.kind == "prompt")
        for warning in [*recorded_models_warnings(_recorded_manifests(classifier)), *warned]:
            reporter.say(warning)
        if changed:
            reporter.say(
                f"Changed since the run began: {', '.join(changed)}. Answers that still fit are "
                "reused; the others are requested."
            )
        if changed or not options.resume:
            say_estimate(classifier, rows, total, session, options.batch)
        answers = {"answers": _path_from(run.path, session.cache)} if run else {}
        writer.begin(options.resume, run_id=identity, **answers)
        if run:
            # Errors before this point leave no file.
            reporter.log = JsonLinesLog(run.path / run_folder.LOG)
        stack.enter_context(reporter)
        if run and trackers:
            tracked = TrackedRun(plan.kind, run.path, plan.recipe)
            stack.enter_context(_Tracking(trackers, tracked, session))
        chosen = steps.begin(session) or classifier
        with _spent_noted(run, session):
            label_rows(chosen, rows, partial(steps.add, writer), session)
        reporter.write_summary()
        opening = session.opening_cost
        results = steps.results()
        costs = {"probing": None if opening is None else usd(opening)} | results.pop("costs", {})
        facts = _requests(session) | _prompt_counts(chosen)
        finished = writer.finish(costs=costs, **facts, **results)
        if not finished.totals.failed:
            session.forget()
        return finished


def _recorded_manifests(classifier: Classifier) -> Iterator[Mapping[str, Any]]:
    """Yield the manifests of the recorded runs in a classifier and its members."""
    if isinstance(classifier, RecordedClassifier):
        yield classifier.table.manifest
    for member in classifier.members.values():
        yield from _recorded_manifests(member)


@contextmanager
def _spent_noted(run: RunFolder | None, session: RequestSession) -> Iterator[None]:
    """Record in the manifest what was spent, however the run ends."""
    try:
        yield
    finally:
        spent = session.spent
        if run and spent is not None:
            run.update_manifest(spent_usd=usd(spent))


def _requests(session: RequestSession) -> dict[str, Any]:
    """Return the manifest's keys about the calls, if an LLM was used."""
    if not session.members:
        return {}
    tally = session.tally
    return {
        "requests": {
            "retries": tally.retries,
            "rate_limit_episodes": tally.rate_limit_episodes,
            "service_tiers": tally.service_tiers,
        }
    }


def _prompt_counts(classifier: Classifier) -> dict[str, Any]:
    """Return the manifest's key about the prompts, if a strategy counts something."""
    strategies = [model.components.strategy for model in language_models(classifier)]
    counted = [dict(counts) for strategy in strategies if (counts := strategy.counts())]
    return {"prompts": counted} if counted else {}


def refuse_changed(
    run: RunFolder,
    recipe: Mapping[str, Any],
    split: LabelledSplit,
    members: Mapping[str, Any] | None = None,
    prompts: bool = False,
) -> list[str]:
    """Refuse to resume a run with other settings or examples; return changed keys of the prompt.

    Members of an ensemble are compared by their descriptions. `prompts` allows changes of the
    strategy, because cached answers are found by their requests.
    """
    manifest = run.manifest
    changed = _differences(manifest.get("recipe", {}), recipe)
    # By order, because recipes with old keys have other names for the members.
    begun_members = manifest.get("members", {}).values()
    for (name, member), begun in zip((members or {}).items(), begun_members, strict=False):
        changed += [f"{name}: {key}" for key in _differences(begun, member)]
    refused = [key for key in changed if not prompts or not key.startswith("strategy.")]
    if refused:
        raise other_settings(run.path, refused)
    begun = manifest.get("dataset", {}).get("fingerprint")
    if begun != split.examples.fingerprint():
        limit = manifest.get("limit")
        advice = f" It was started with --limit {limit}." if limit else ""
        raise InputError(
            f"{run.path} was started with other examples than {split.name} has now.{advice} "
            "Start again with another --output."
        )
    return changed


def other_settings(path: Path, changed: Sequence[str]) -> InputError:
    return InputError(
        f"{path} was started with other settings: {', '.join(changed)}. Resume it with the same "
        "ones, or start again with another --output, which reuses cached answers that still fit."
    )


def _differences(begun: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the settings that differ, except those that only affect how calls are made."""
    free = {f"llm.{name}" for name in RequestOptions.model_fields if name != "repair"}
    free |= {"description", "trackers"}
    return [
        key
        for key in differing_keys(begun, now)
        if key not in free and not key.startswith(("llm.prices.", "trackers."))
    ]


class _Tracking:
    def __init__(
        self, trackers: Mapping[str, Tracker], run: TrackedRun, session: RequestSession
    ) -> None:
        self._group = TrackerGroup(trackers, session.reporter.say)
        self._run, self._session = run, session
        session.watch = self._group.call

    def __enter__(self) -> None:
        self._group.start(self._run)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: object
    ) -> None:
        self._group.log(self._session.reporter.summary())
        status, metrics = run_folder.end_status(error), {}
        path = self._run.path / run_folder.METRICS
        if status == run_folder.FINISHED and path.exists():
            metrics = dict(read_json(path))
        if status != run_folder.INTERRUPTED:
            reason = redacted(str(error)) if error else scores_line(metrics)
            self._group.alert(f"Run {status}", f"{self._run.path} {status}: {reason}")
        self._group.finish(metrics, status)
