"""A model card with figures from the run's files.

The header has the hub's metadata (https://huggingface.co/docs/hub/model-cards), with the scores as
a model-index.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_LICENCE = "unknown"


@dataclass(frozen=True)
class CardFacts:
    """The facts on a model card.

    Attributes:
        title: the heading.
        repository: on the hub, or None.
        library: the one that loads the folder: sentikit or transformers.
        labels: the classes, in logit order.
        encoder: the recipe's encoder section, or the type of another library's encoder.
        manifest: the run's, or empty.
        metrics: the run's ``metrics.json``, or empty.
    """

    title: str
    repository: str | None
    library: str
    labels: tuple[str, ...]
    encoder: str
    manifest: Mapping[str, Any]
    metrics: Mapping[str, Any]


def write_card(facts: CardFacts, path: Path) -> None:
    """Write ``README.md``."""
    from huggingface_hub import ModelCard

    body = "\n\n".join(section for section in _sections(facts) if section)
    ModelCard(f"---\n{_header(facts)}\n---\n\n{body}\n").save(path)


def _header(facts: CardFacts) -> str:
    from huggingface_hub import ModelCardData

    results = list(_evaluation_results(facts))
    data = ModelCardData(
        library_name=facts.library,
        pipeline_tag="text-classification",
        tags=["sentiment-analysis", "sentikit"],
        license=_LICENCE,
        metrics=["f1", "accuracy"] if results else None,
        model_name=facts.title if results else None,
        eval_results=results or None,
    )
    return str(data.to_yaml())


def _evaluation_results(facts: CardFacts) -> Iterator[Any]:
    """Yield macro-F1 and accuracy, overall and by source, in the hub's form."""
    from huggingface_hub import EvalResult

    if not facts.metrics:
        return
    dataset = facts.manifest["dataset"]["dataset"]
    parts = [(None, facts.metrics["overall"]), *sorted(facts.metrics["by_source"].items())]
    for source, scores in parts:
        for kind, name, key in (
            ("f1", "Macro-F1", "macro_f1"),
            ("accuracy", "Accuracy", "accuracy"),
        ):
            yield EvalResult(
                task_type="text-classification",
                dataset_type=dataset,
                dataset_name=f"{dataset}, {source}" if source else dataset,
                dataset_config=source,
                dataset_split=facts.metrics["split"],
                metric_type=kind,
                metric_name=name,
                metric_value=scores[key],
            )


def _sections(facts: CardFacts) -> Iterator[str]:
    yield f"# {facts.title}"
    yield (
        f"A sentiment classifier ({', '.join(facts.labels)}) made with sentikit: encoder "
        f"{facts.encoder}."
    )
    yield _usage(facts)
    yield _scores(facts)
    yield _training(facts)
    yield (
        "## Licence\n\nNot stated yet. Name the licence of these weights here and in the header "
        f"(`license: {_LICENCE}`); mind those of the encoder and of the training data."
    )


def _usage(facts: CardFacts) -> str:
    name = facts.repository or "OWNER/NAME"
    python = f'''import sentikit

classifier = sentikit.load("{name}")
classifier.predict(["I love it"])'''
    if facts.library == "transformers":
        python = f'''from transformers import pipeline

classify = pipeline("text-classification", "{name}")
classify("I love it")'''
    return f"""## Use

With sentikit on the command line:

```
echo 'I love it' | sentikit predict {name}
```

```python
{python}
```"""


def _scores(facts: CardFacts) -> str:
    if not facts.metrics:
        return "## Scores\n\nNone: this model was exported without the run that trained it."
    overall, by_source = facts.metrics["overall"], facts.metrics["by_source"]
    dataset = facts.manifest["dataset"]
    rows = [_score_row("all", overall)]
    if len(by_source) > 1:
        rows += [_score_row(name, scores) for name, scores in sorted(by_source.items())]
    per_class = [
        [name, str(s["support"]), *(f"{s[key]:.4f}" for key in ("precision", "recall", "f1"))]
        for name, s in overall["per_class"].items()
    ]
    return "\n\n".join(
        [
            f"## Scores\n\nOn the split {facts.metrics['split']} of {dataset['dataset']} "
            f"({dataset['examples']:,} examples, fingerprint `{dataset['fingerprint']}`), "
            "as fractions:",
            _table(["", "examples", "macro-F1", "accuracy", "calibration error"], rows),
            _table(["class", "examples", "precision", "recall", "F1"], per_class),
            _calibration(facts.metrics),
        ]
    ).rstrip()


def _score_row(name: str, scores: Mapping[str, Any]) -> list[str]:
    calibration = scores.get("calibration")
    error = f"{calibration['ece']:.4f}" if calibration else "not measured"
    figures = [f"{scores['macro_f1']:.4f}", f"{scores['accuracy']:.4f}", error]
    return [name, str(scores["examples"]), *figures]


def _calibration(metrics: Mapping[str, Any]) -> str:
    calibrated = metrics.get("calibrated")
    if not calibrated:
        return ""
    return (
        f"With `sentikit.load(…, calibrated=True)` logits are divided by "
        f"{calibrated['temperature']:.4f}, fitted on {calibrated['fitted_on']}; the calibration "
        f"error is then {calibrated['ece']:.4f}."
    )


def _training(facts: CardFacts) -> str:
    manifest = facts.manifest
    if not manifest:
        return ""
    splits = [
        [name, s["dataset"], f"{s['examples']:,}", f"`{s['fingerprint']}`"]
        for name, s in manifest.get("data", {}).items()
    ]
    versions = ", ".join(
        f"{name} {number}" for name, number in manifest.get("versions", {}).items()
    )
    facts_of_run = [
        f"Trained {manifest.get('started', '')} to {manifest.get('finished', '')} on "
        f"{manifest.get('device')} in {manifest.get('precision')}, seed {manifest.get('seed')}, "
        f"best epoch {manifest.get('best_epoch')} of {manifest.get('epochs')}, "
        f"{manifest.get('training_seconds', 0):,.0f} s of training.",
        f"Versions: {versions}.",
    ]
    facts_of_run += [
        f"The labels of {name} are a classifier's predictions, not gold labels."
        for name, split in manifest.get("data", {}).items()
        if split.get("label_origin")
    ]
    return "\n\n".join(
        [
            f"## Training\n\n{' '.join(facts_of_run)}",
            _table(["split", "dataset", "examples", "fingerprint"], splits),
            _recipe(manifest),
        ]
    ).rstrip()


def _recipe(manifest: Mapping[str, Any]) -> str:
    if not manifest.get("recipe"):
        return ""
    recipe = without_local_folders(manifest["recipe"])
    from ruamel.yaml import YAML

    yaml, written = YAML(typ="safe", pure=True), io.StringIO()
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.dump(recipe, written)
    return f"The recipe:\n\n```yaml\n{written.getvalue().rstrip()}\n```"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def without_local_folders(value: Any) -> Any:
    """Return `value` with absolute paths reduced to their last part."""
    if isinstance(value, Mapping):
        return {key: without_local_folders(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_local_folders(item) for item in value]
    is_path = isinstance(value, str) and (value.startswith("~") or Path(value).is_absolute())
    return Path(value).name if is_path else value
