"""Commands in several processes, which they start or which a launcher has started."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from sentikit.errors import InputError

if TYPE_CHECKING:
    from sentikit.classifiers.classifier import Classifier
    from sentikit.processes.group import ProcessGroup

NPROC = click.option(
    "--nproc", type=click.IntRange(min=1), help="Processes to start on this machine."
)


def start_processes(context: click.Context, processes: int | None, device: str) -> None:
    """Run the command in several processes if requested, and exit with their exit code."""
    if processes is None or processes == 1:
        return
    from sentikit.processes.launching import launch_processes

    launch_processes(context, processes, device)


@contextmanager
def joined_group(device: str) -> Iterator[ProcessGroup]:
    """Join the processes of a launcher, if any, and fail together with them."""
    from sentikit.processes.group import joined_processes

    with joined_processes():
        from sentikit.processes.group import ProcessGroup

        group = ProcessGroup()
        group.join(device)
        yield group


def shared(classifier: Classifier, group: ProcessGroup) -> Classifier:
    """Return a classifier that divides its texts among the group."""
    from sentikit.classifiers.encoder_classifier import EncoderClassifier, SharedClassifier

    if group.processes == 1:
        return classifier
    if not isinstance(classifier, EncoderClassifier):
        raise InputError("Only an encoder can run in several processes. Leave out --nproc.")
    return SharedClassifier(classifier, group)
