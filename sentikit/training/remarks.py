"""What is odd about a training that is about to begin."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sentikit.devices import half_precision_pays
from sentikit.errors import InputError
from sentikit.training.trainer import Labelled, Trainer


def remarks(trainer: Trainer) -> Iterator[str]:
    """Yield what is odd about a plan but no mistake for sure.

    Raises:
        InputError: what cannot work: warm-up as long as training.
    """
    total, settings = trainer.total_steps(), trainer.settings
    if trainer.warmup_steps() >= total:
        raise InputError(
            f"{trainer.section}.warmup: {trainer.warmup_steps()} steps of warm-up, training has "
            f"{total}. Give fewer, or a share such as 0.1."
        )
    longest = settings.schedule.longest_epochs()
    if longest > settings.epochs:
        yield (
            f"{trainer.section}.schedule {settings.schedule.name} changes only after {longest:g} "
            f"epochs, training has {settings.epochs}: it will not run its course."
        )
    if trainer.plan.precision == "bf16" and not half_precision_pays(trainer.engine.device):
        yield (
            f"{trainer.section}.precision bf16 is several times slower than fp32 on this device; "
            "auto chooses fp32 here."
        )
    yield from _missing_classes("training", trainer.train, trainer.classes)
    yield from _missing_classes("validation", trainer.validation, trainer.classes)
    yield from trainer.engine.remarks()


def _missing_classes(split: str, examples: Labelled, classes: tuple[str, ...]) -> Iterator[str]:
    counts = np.bincount(examples.gold, minlength=len(classes))
    for name, count in zip(classes, counts, strict=True):
        if not count:
            yield (
                f"No {split} example is labelled {name!r}, whose F1 counts as 0 in macro-F1. For "
                "data of two classes set dataset.labels, as bin_neg or bin_pos."
            )
