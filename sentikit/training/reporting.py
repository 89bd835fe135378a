"""Reports of a training run, and the interactive dialogue between epochs."""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import click

from sentikit.components import refuse, validate
from sentikit.errors import InputError, did_you_mean
from sentikit.runs.reporter import RunReporter
from sentikit.terminal import LiveBar
from sentikit.tracking import TrackedRun, Tracker
from sentikit.training.settings import OWN_METRICS, Change


class Journal(Protocol):
    """Receives the reports of the training loop; a fine-tuner's session is one.

    A record has a ``kind``: ``step``, ``epoch``, or ``change`` of settings by the user.
    """

    def say(self, message: str) -> None: ...

    def alert(self, title: str, text: str) -> None: ...

    def record(self, record: Mapping[str, Any]) -> None: ...

    def rewind(self, step: int, epochs: int = 0) -> None: ...


class SilentJournal:
    """The journal of every process but the main one."""

    def _ignore(self, *values: Any, **named: Any) -> None: ...

    say = alert = record = rewind = _ignore


#: Messages of all trainings of this process, without their numbers.
_SHOWN: set[str] = set()


class TrainingReporter(RunReporter):
    """The journal of the main process: log, trackers, progress bar and a line for each epoch."""

    def __init__(
        self, run: TrackedRun, trackers: Mapping[str, Tracker], shown: bool, quiet: bool = False
    ) -> None:
        self._steps, self._quiet = LiveBar("steps", shown), quiet
        super().__init__(run, trackers, self._steps, "training")

    def say(self, message: str) -> None:
        """Show a message; of repeated trainings in Python, such as a search, the same only once."""
        pattern = re.sub(r"[0-9.,]+", "", message)
        if not self._quiet or pattern not in _SHOWN:
            _SHOWN.add(pattern)
            super().say(message)

    def record(self, record: Mapping[str, Any]) -> None:
        """Log a record and show it."""
        kept = {key: value for key, value in record.items() if key != "steps"}
        super().record(kept)
        if record["kind"] == "step":
            self._steps.update(record["step"], record["steps"])
        elif record["kind"] == "epoch" and not self._quiet:
            best = " (best)" if record["best_epoch"] == record["epoch"] else ""
            watched = record["metric"]
            if watched not in OWN_METRICS:
                best = f", {watched} {record[f'validation_{watched}']:.4f}{best}"
            self.say(
                f"epoch {record['epoch']}/{record['epochs']}  loss {record['training_loss']:.4f}  "
                f"validation: loss {record['validation_loss']:.4f}, "
                f"macro-F1 {record['validation_macro_f1']:.4f}, "
                f"accuracy {record['validation_accuracy']:.4f}{best}  "
                f"[{record['seconds']:.0f} s]"
            )


def tell(message: str) -> None:
    click.echo(message, err=True)


def read_line() -> str:
    """Read a line that the user types, "" at the end of input; Ctrl-C means ``quit``."""
    click.echo("> ", nl=False, err=True)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return sys.stdin.readline()
    except KeyboardInterrupt:
        return "quit"
    finally:
        signal.signal(signal.SIGINT, before)


#: The commands of the dialogue: the settings of a `Change`, and these.
COMMANDS = {
    "continue": "continue; with a number: ask again after that many epochs",
    **{name: field.description or "" for name, field in Change.model_fields.items()},
    "save": "write a checkpoint now",
    "memory": "show memory in use",
    "help": "show this list",
    "quit": "save and stop; resume later with --resume",
}
del COMMANDS["after_epoch"]


@dataclass
class Decision:
    changes: dict[str, float] = field(default_factory=dict)
    silent_epochs: int = 1
    save: bool = False
    quit: bool = False


class EpochDialogue:
    """Asks the user for changes after every epoch, or every N epochs."""

    def __init__(self, read: Callable[[], str], say: Callable[[str], None]) -> None:
        self._read = read
        self._say = say
        self._silent = 0

    def ask(self, epoch: int, memory: Callable[[], str]) -> Decision:
        """Ask the user until training continues or ends; the end of input means continue."""
        if self._silent > 0:
            self._silent -= 1
            return Decision()
        self._say(f"Epoch {epoch} is done. Press Enter to continue, or type help for a list.")
        decision, over = Decision(), False
        while not over:
            try:
                words = self._read().replace("=", " ").split() or ["continue"]
                over = self._run_command(words, decision, memory)
            except InputError as error:
                self._say(error.message)
        self._silent = decision.silent_epochs - 1
        return decision

    def _run_command(self, words: list[str], decision: Decision, memory: Callable[[], str]) -> bool:
        command, *values = words
        if command == "continue":
            decision.silent_epochs = int(_change("epochs", values, command)) if values else 1
        elif command == "quit":
            decision.quit = True
        elif command == "save":
            decision.save = True
            self._say("A checkpoint will be written before the next epoch.")
        elif command == "memory":
            self._say(memory())
        elif command == "help":
            self._say("\n".join(f"  {name:<11} {does}" for name, does in COMMANDS.items()))
        elif command in COMMANDS:
            decision.changes[command] = _change(command, values, command)
            self._say(f"{command} will be {decision.changes[command]:g}.")
        else:
            raise InputError(f"Unknown command {command!r}. {did_you_mean(command, COMMANDS)}")
        return command in ("continue", "quit")


def _change(setting: str, values: list[str], command: str) -> float:
    """Return the number after a command, validated as the setting's value."""
    if len(values) != 1:
        raise InputError(f"{command} needs one number, for example: {command} 3")
    change, problems = validate(Change, {"after_epoch": 1, setting: values[0]})
    refuse(replace(problem, path=(command,)) for problem in problems)
    number: float = getattr(change, setting)
    return number


def memory_in_use() -> str:
    import torch

    try:
        import resource
    except ImportError:
        text = "peak memory: unknown on Windows"
    else:
        unit = 1 if sys.platform == "darwin" else 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
        text = f"peak memory: {peak:,.0f} MiB"
    if torch.cuda.is_available():
        used, most = torch.cuda.memory_allocated(), torch.cuda.max_memory_allocated()
        text += f"; GPU: {used / 2**20:,.0f} MiB, peak {most / 2**20:,.0f} MiB"
    return text
