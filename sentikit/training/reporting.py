"""Reports of a training run, and the dialogue by which a user steers it."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import click

from sentikit.errors import InputError, did_you_mean
from sentikit.keys import redacted
from sentikit.runs import folder as run_folder
from sentikit.runs.folder import JsonLinesLog
from sentikit.terminal import LiveBar
from sentikit.tracking import TrackedRun, Tracker, TrackerGroup, scores_line


class Journal:
    """Where the loop reports to; this one, of all but the main process, ignores everything."""

    def step(self, record: dict[str, Any]) -> None:
        """Report on the last few steps."""

    def epoch(self, record: dict[str, Any]) -> None:
        """Report on an epoch and its validation."""

    def change(self, record: dict[str, Any]) -> None:
        """Report on settings that the user has changed."""

    def advance(self, step: int, total: int) -> None:
        """Move the progress bar."""

    def say(self, message: str) -> None:
        """Tell the user something."""

    def alert(self, title: str, text: str) -> None:
        """Tell the user, wherever they are, what deserves a look at once."""
        self.say(text)

    def scored(self, metrics: dict[str, Any]) -> None:
        """Report the scores of the finished run, as in ``metrics.json``."""


class ConsoleJournal(Journal):
    """Writes the log, talks to the user and to the run's trackers; use as a context manager."""

    def __init__(
        self,
        log: JsonLinesLog,
        run: TrackedRun,
        trackers: Mapping[str, Tracker],
        bar: bool = True,
        quiet: bool = False,
    ) -> None:
        self._log, self._run, self._quiet = log, run, quiet
        self._bar = LiveBar("steps", shown=bar)
        self._trackers = TrackerGroup(trackers, self.say)
        self._metrics: dict[str, Any] = {}

    def __enter__(self) -> Self:
        # Trackers may print or ask something, which a moving bar would garble.
        self._trackers.start(self._run)
        self._bar.start(line="training")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()
        self._log.close()
        status = run_folder.end_status(error)
        if status != run_folder.INTERRUPTED:
            reason = redacted(str(error)) if error else scores_line(self._metrics)
            self._trackers.alert(f"Run {status}", f"{self._run.path} {status}: {reason}")
        self._trackers.finish(self._metrics, status)

    def step(self, record: dict[str, Any]) -> None:
        """Log a few steps."""
        self._log.write({"kind": "step", **record})
        self._trackers.log({"kind": "step", **record})

    def epoch(self, record: dict[str, Any]) -> None:
        """Log an epoch and print its line."""
        self._log.write({"kind": "epoch", **record})
        best = " (best)" if record["best_epoch"] == record["epoch"] else ""
        if not self._quiet:
            self.say(
                f"epoch {record['epoch']}/{record['epochs']}  loss {record['training_loss']:.4f}  "
                f"validation: loss {record['validation_loss']:.4f}, "
                f"macro-F1 {record['validation_macro_f1']:.4f}, "
                f"accuracy {record['validation_accuracy']:.4f}{best}  "
                f"[{record['seconds']:.0f} s]"
            )
        self._trackers.log({"kind": "epoch", **record})

    def change(self, record: dict[str, Any]) -> None:
        """Log what the user has changed."""
        self._log.write({"kind": "change", **record})

    def advance(self, step: int, total: int) -> None:
        """Move the bar."""
        self._bar.update(step, total)

    def say(self, message: str) -> None:
        """Print above the bar."""
        self._bar.say(message)

    def alert(self, title: str, text: str) -> None:
        """Print the text and pass it on."""
        self.say(text)
        self._trackers.alert(title, text)

    def scored(self, metrics: dict[str, Any]) -> None:
        """Keep the scores for the trackers."""
        self._metrics = metrics


def tell(message: str) -> None:
    """Print on standard error."""
    click.echo(message, err=True)


def read_line() -> str:
    """Read a line the user types; Ctrl-C is ``quit``, for there is no step to wait for.

    Raises:
        EOFError: there is no more input.
    """
    click.echo("> ", nl=False, err=True)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        line = sys.stdin.readline()
    except KeyboardInterrupt:
        return "quit"
    finally:
        signal.signal(signal.SIGINT, before)
    if not line:
        raise EOFError
    return line


#: Command, what it takes, and what it does; the settings it changes come back in `Decision`.
COMMANDS: dict[str, tuple[str, str]] = {
    "continue": ("[N]", "go on, and ask again after N epochs (1)"),
    "lr": ("X", "learning rate of the top layer; the other layers and the head in proportion"),
    "epochs": ("N", "epochs in all"),
    "patience": ("N", "epochs without improvement before stopping; 0: never stop"),
    "tolerance": ("X", "an improvement must be more than this"),
    "target": ("X", "stop once the watched metric is this good"),
    "checkpoint": ("N", "epochs between checkpoints"),
    "save": ("", "write a checkpoint now"),
    "memory": ("", "show memory in use"),
    "help": ("", "show this list"),
    "quit": ("", "save and stop; --resume goes on"),
}


@dataclass
class Decision:
    """What the user wants before the next epoch.

    Attributes:
        changes: settings to change, by command.
        silent_epochs: epochs to go on before asking again.
        save: write a checkpoint.
        quit: save and stop.
    """

    changes: dict[str, float] = field(default_factory=dict)
    silent_epochs: int = 1
    save: bool = False
    quit: bool = False


class EpochDialogue:
    """Asks at the end of every epoch, or of every N."""

    def __init__(self, read: Callable[[], str], say: Callable[[str], None]) -> None:
        self._read = read
        self._say = say
        self._silent = 0

    def ask(self, epoch: int, memory: Callable[[], str]) -> Decision:
        """Talk with the user until training goes on or ends; the end of input means go on.

        Args:
            epoch: epochs done.
            memory: describes the memory in use.
        """
        if self._silent > 0:
            self._silent -= 1
            return Decision()
        self._say(f"Epoch {epoch} is done. Enter goes on, help lists what can be changed.")
        decision = Decision()
        while not self._obey(decision, memory):
            continue
        self._silent = decision.silent_epochs - 1
        return decision

    def _obey(self, decision: Decision, memory: Callable[[], str]) -> bool:
        """Read and carry out one line; return whether the dialogue is over."""
        try:
            line = self._read()
        except EOFError:
            line = "continue"
        try:
            return self._carry_out(line.split() or ["continue"], decision, memory)
        except InputError as error:
            self._say(error.message)
            return False

    def _carry_out(self, words: list[str], decision: Decision, memory: Callable[[], str]) -> bool:
        command = words[0]
        if command == "continue":
            decision.silent_epochs = int(_number(words, whole=True)) if words[1:] else 1
        elif command == "quit":
            decision.quit = True
        elif command == "save":
            decision.save = True
            self._say("A checkpoint will be written before the next epoch.")
        elif command == "memory":
            self._say(memory())
        elif command == "help":
            self._say(_help())
        elif command in COMMANDS:
            whole = COMMANDS[command][0] == "N"
            value = _number(words, whole)
            decision.changes[command] = int(value) if whole else value
            self._say(f"{command} will be {decision.changes[command]:g}.")
        else:
            raise InputError(f"Unknown command {command!r}. {did_you_mean(command, COMMANDS)}")
        return command in ("continue", "quit")


def memory_in_use() -> str:
    """Describe the memory this process uses."""
    import resource
    import sys

    import torch

    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
    text = f"main memory, at its highest: {peak:,.0f} MiB"
    if torch.cuda.is_available():
        used, most = torch.cuda.memory_allocated(), torch.cuda.max_memory_allocated()
        text += f"; GPU: {used / 2**20:,.0f} MiB, at its highest {most / 2**20:,.0f} MiB"
    return text


def _number(words: list[str], whole: bool) -> float:
    command = words[0]
    kind = "a whole number" if whole else "a number"
    lowest = 0 if command in ("patience", "tolerance", "target") else 1 if whole else 1e-30
    try:
        value: float = int(words[1]) if whole else float(words[1])
    except (IndexError, ValueError) as error:
        raise InputError(f"{command} takes {kind}, as: {command} 3") from error
    if len(words) > 2 or not lowest <= value < float("inf"):
        raise InputError(f"{command} takes {kind} of at least {lowest:g}.")
    return value


def _help() -> str:
    return "\n".join(
        f"  {f'{name} {takes}':<14} {does}" for name, (takes, does) in COMMANDS.items()
    )
