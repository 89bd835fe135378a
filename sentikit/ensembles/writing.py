"""Leaves the run of a team, like every other run."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentikit.ensembles.judged import JudgedCascade, JudgedVote, Worth
from sentikit.ensembles.members import Team
from sentikit.files import atomic_writer, write_json
from sentikit.llm.adviser import encoder_cost
from sentikit.runs import folder as run_folder
from sentikit.runs.folder import RunFolder, command_line, describe_split, now, versions
from sentikit.runs.table import Labelling, RunTable
from sentikit.scoring import calibration, ranking
from sentikit.yaml_files import dump_yaml

#: The whole judgement, curve included, beside the run's metrics.
CASCADE, VOTE = "cascade.json", "vote.json"


def recorded_recipe(judged: JudgedCascade, tune: tuple[str, str] | None = None) -> dict[str, Any]:
    """Return the recipe of a cascade of two recorded runs, ready to run again.

    Args:
        judged: the cascade.
        tune: the runs that its threshold was chosen on, if it was on others.
    """
    cascade: dict[str, Any] = {"encoder": judged.encoder, "llm": judged.llm}
    if judged.how == "given":
        cascade["threshold"] = judged.threshold
    else:
        cascade["tune"] = {"goal": judged.aim.goal, "target": judged.aim.target}
        if tune is not None:
            cascade["tune"] |= dict(zip(("encoder", "llm"), tune, strict=True))
    return {"kind": "cascade", "cascade": cascade}


def write_cascade(
    run: RunFolder, team: Team, judged: JudgedCascade, recipe: Mapping[str, Any]
) -> None:
    """Write a cascade's manifest, recipe, predictions, scores, costs and curve.

    Args:
        run: the folder, locked.
        team: the encoder's run and the LLM's.
        judged: the cascade of them.
        recipe: what it was made from.
    """
    encoder, llm = team.members
    probabilities = _chosen_probabilities(encoder, llm, judged.asked)
    extras = [
        {"answered_by": ["encoder", "llm"][asked], **extra}
        for asked, extra in zip(judged.asked.tolist(), _cascade_extras(team, judged), strict=True)
    ]
    summary = {
        "threshold": judged.threshold,
        "how": judged.how,
        "calls": judged.calls,
        "share_of_calls": judged.share,
    }
    _write(
        run,
        team,
        "cascade",
        dict(recipe),
        Labelling(judged.labels, probabilities),
        judged.worth,
        extras,
        {"cascade": summary},
        _cascade_costs(encoder, llm, judged),
    )
    write_json(run.path / CASCADE, judged.to_json())


def write_vote(
    run: RunFolder, team: Team, judged: JudgedVote, recipe: Mapping[str, Any] | None = None
) -> None:
    """Write a vote's manifest, recipe, predictions, scores and costs.

    Args:
        run: the folder, locked.
        team: the runs that voted.
        judged: their vote.
        recipe: what it was made from; without it, one that names the runs.
    """
    named = {"members": list(judged.members), "ties": judged.ties}
    votes = [
        [_name(team, number) for number in row]
        for row in np.stack([m.answers.labels for m in team.members], 1).tolist()
    ]
    counted = {"ties": judged.ties, "unanimous": judged.unanimous, "tied": judged.tied}
    costs: dict[str, float | None] = {}
    for number, member in enumerate(team.members, 1):
        for item, cost in _known_costs(member).items():
            costs[f"{item} {number}"] = cost
    _write(
        run,
        team,
        "vote",
        dict(recipe or {"kind": "vote", "vote": named}),
        Labelling(judged.labels),
        judged.worth,
        [{"votes": row} for row in votes],
        {"vote": counted},
        costs,
    )
    write_json(run.path / VOTE, judged.to_json())


def cascade_table(team: Team, judged: JudgedCascade, name: str = "cascade") -> RunTable:
    """Return a cascade's answers as a run of that name, to compare it with others."""
    encoder, llm = team.members
    cost = None if llm.cost is None else np.where(judged.asked, llm.cost, 0.0)
    return RunTable(
        name=name,
        classes=team.classes,
        examples=team.examples,
        gold=team.gold,
        answers=Labelling(judged.labels, _chosen_probabilities(encoder, llm, judged.asked)),
        cost=cost,
        has_texts=encoder.has_texts or llm.has_texts,
        manifest={
            "kind": "cascade",
            "recipe": {
                "kind": "cascade",
                "cascade": {"encoder": judged.encoder, "llm": judged.llm},
            },
        },
    )


def _write(
    run: RunFolder,
    team: Team,
    kind: str,
    recipe: dict[str, Any],
    answers: Labelling,
    worth: Worth,
    extras: list[dict[str, Any]],
    metrics: Mapping[str, Any],
    costs: Mapping[str, float | None],
) -> None:
    described = _described(team)
    started = run.manifest.get("started") if run.status else None
    run.update_manifest(kind=kind, started=started or now(), status=run_folder.RUNNING)
    run.write_recipe(dump_yaml(recipe))
    with atomic_writer(run.path / run_folder.PREDICTIONS) as stream:
        for row, extra in zip(_rows(team, answers), extras, strict=True):
            record = json.dumps({**row, **extra}, ensure_ascii=False, allow_nan=False)
            stream.write(record + "\n")
    if worth.scores is not None:
        write_json(
            run.path / run_folder.METRICS, _metrics(team, answers, worth, described, metrics)
        )
    run.update_manifest(
        status=run_folder.FINISHED,
        finished=now(),
        recipe=recipe,
        command=command_line(),
        dataset=described,
        classes=list(team.classes),
        invalid=int((answers.labels < 0).sum()),
        versions=versions(),
        cost_usd=dict(costs),
    )


def _metrics(
    team: Team,
    answers: Labelling,
    worth: Worth,
    described: Mapping[str, Any],
    more: Mapping[str, Any],
) -> dict[str, Any]:
    assert worth.scores is not None
    scores = worth.scores
    if answers.probabilities is not None:
        known = ~np.isnan(answers.probabilities).any(1) & (team.gold >= 0)
        if known.any():
            gold, probabilities = team.gold[known], answers.probabilities[known]
            scores = dataclasses.replace(
                scores,
                calibration=calibration(gold, probabilities),
                ranking=ranking(gold, probabilities, team.classes),
            )
    return {
        "split": described["split"],
        "overall": scores.to_json(),
        "by_source": {name: own.to_json() for name, own in worth.by_source.items()},
        **more,
    }


def _described(team: Team) -> dict[str, Any]:
    """Say which split the team labelled, as far as one of its runs knows."""
    recorded = [m.manifest["dataset"] for m in team.members if "dataset" in m.manifest]
    known: Mapping[str, Any] = recorded[0] if recorded else {}
    examples = team.examples
    name, split = known.get("dataset", "recorded"), known.get("split", "test")
    return describe_split(name, split, len(examples), examples.fingerprint())


def _rows(team: Team, answers: Labelling) -> Iterator[dict[str, Any]]:
    labels, row = answers.labels.tolist(), 0
    for batch in team.examples.batches():
        columns = (batch["id"], batch["text"], batch["label"], batch["source"])
        for identifier, text, gold, source in zip(*columns, strict=True):
            yield {
                "id": identifier,
                "text": text,
                "gold": gold,
                "label": _name(team, labels[row]),
                "probabilities": _probabilities(answers, row, team.classes),
                "source": source,
            }
            row += 1


def _cascade_extras(team: Team, judged: JudgedCascade) -> Iterator[dict[str, Any]]:
    """Yield what a cascade adds to each row: of rows sent on, what the LLM said and took."""
    encoder, llm = team.members
    raw = None if llm.raw is None else llm.raw.to_pylist()
    for row, asked in enumerate(judged.asked.tolist()):
        tokens = llm.tokens[row].tolist() if asked and llm.tokens is not None else None
        cost = float(llm.cost[row]) if asked and llm.cost is not None else float("nan")
        names = ("prompt", "cached", "completion")
        yield {
            "answer": raw[row] if asked and raw is not None else None,
            "usage": None if tokens is None else dict(zip(names, tokens, strict=True)),
            "cost": None if np.isnan(cost) else cost,
            "encoder": {
                "label": _name(team, int(encoder.answers.labels[row])),
                "probabilities": _probabilities(encoder.answers, row, team.classes),
            },
        }


def _chosen_probabilities(
    encoder: RunTable, llm: RunTable, asked: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return the probabilities of whoever answered, (rows, classes), NaN where unknown."""
    known = encoder.answers.probabilities
    assert known is not None
    theirs = llm.answers.probabilities
    unknown = np.full_like(known, np.nan)
    return np.where(asked[:, None], unknown if theirs is None else theirs, known)


def _probabilities(
    answers: Labelling, row: int, classes: tuple[str, ...]
) -> dict[str, float] | None:
    if answers.probabilities is None or np.isnan(answers.probabilities[row]).any():
        return None
    values = answers.probabilities[row].tolist()
    return {name: round(value, 6) for name, value in zip(classes, values, strict=True)}


def _name(team: Team, number: int) -> str | None:
    return team.classes[number] if number >= 0 else None


def _cascade_costs(
    encoder: RunTable, llm: RunTable, judged: JudgedCascade
) -> dict[str, float | None]:
    """Return USD by item: the calls made, the encoder's training, and what else the LLM took."""
    costs = {item: cost for item, cost in _known_costs(llm).items() if item != "llm"}
    if judged.cost is not None:
        costs["llm"] = round(judged.cost * judged.rows / 1000, 9)
    if Path(encoder.name).is_dir():
        trained = encoder_cost(encoder.name)
        costs |= {"encoder": trained} if trained else {}
    return costs


def _known_costs(member: RunTable) -> dict[str, float | None]:
    return dict(member.manifest.get("cost_usd") or {})
