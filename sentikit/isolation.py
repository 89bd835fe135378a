"""Isolation of plugins' code: its output, side effects and errors while it loads."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TextIO

from sentikit.errors import one_line
from sentikit.hookspecs import DISABLE_VARIABLE, PROJECT

if TYPE_CHECKING:
    from types import TracebackType

_BUNDLED = f"{PROJECT}.plugins."
#: Seconds after which a slow plugin is reported.
PATIENCE = 2.0


class HardExit(Exception):  # noqa: N818 - named after os._exit
    """A call of ``os._exit`` by code while it was loaded."""


@contextlib.contextmanager
def contained(note: Callable[[str], None] = lambda problem: None) -> Iterator[None]:
    """Redirect code's output to standard error, and undo its changes to the process."""
    folder, handlers = _folder(), _handlers()
    try:
        with _output_to_stderr(), _no_hard_exit():
            yield
    finally:
        if folder and _folder() != folder:
            os.chdir(folder)
            note("loading it changes the current folder; this was undone.")
        for number, handler in handlers.items():
            if signal.getsignal(number) != handler:
                signal.signal(number, handler)
                note(f"loading it replaces the handler of {number.name}; this was undone.")


def _folder() -> str:
    try:
        return os.getcwd()
    except OSError:
        return ""


def _handlers() -> dict[signal.Signals, Any]:
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}


@contextlib.contextmanager
def _no_hard_exit() -> Iterator[None]:
    """Turn ``os._exit`` into an exception, except in forked children."""
    real, process = os._exit, os.getpid()

    def refuse(status: int) -> None:
        if os.getpid() != process:
            real(status)
        raise HardExit(f"os._exit({status}) was called")

    os._exit = refuse  # type: ignore[assignment]
    try:
        yield
    finally:
        os._exit = real


class _Uncloseable(io.TextIOBase):
    """A stream whose `close` does not close the real one."""

    def __init__(self, target: TextIO) -> None:
        self._target = target

    def write(self, text: str) -> int:
        return self._target.write(text)

    def flush(self) -> None:
        self._target.flush()

    def close(self) -> None:
        """Stay open."""

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._target.fileno()

    def isatty(self) -> bool:
        return self._target.isatty()


@contextlib.contextmanager
def _output_to_stderr() -> Iterator[None]:
    """Redirect standard output to standard error, including the file descriptor."""
    shown = _Uncloseable(sys.stderr)
    with contextlib.ExitStack() as undo:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            kept = os.dup(1)
            undo.callback(os.close, kept)
            os.dup2(2, 1)
            undo.callback(os.dup2, kept, 1)
        undo.enter_context(contextlib.redirect_stdout(shown))
        undo.enter_context(contextlib.redirect_stderr(shown))
        yield


@contextlib.contextmanager
def watched(plugin: str) -> Iterator[None]:
    """Print a message if a plugin takes long to load."""
    timer = threading.Timer(PATIENCE, _say_waiting, [plugin])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _say_waiting(plugin: str) -> None:
    os.write(
        2,
        f"Waiting for the plugin {plugin!r} to load. Ctrl-C stops; to switch it off: "
        f"{DISABLE_VARIABLE}={plugin}\n".encode(),
    )


def describe_fault(error: BaseException, module: str = "") -> str:
    """Return an exception's place, kind and message in one line."""
    place = place_of(error, code_root(module)) if module else ""
    kind = f"{type(error).__name__}: {_message(error)}"
    return f"{place}: {kind}" if place else kind


def _message(error: BaseException) -> str:
    return f"{error.msg}." if isinstance(error, SyntaxError) else one_line(error)


def place_of(error: BaseException, root: str) -> str:
    """Return the innermost file and line below `root`, such as ``heads.py line 12``, or ""."""
    if isinstance(error, SyntaxError) and error.filename and is_below(error.filename, root):
        return f"{_shown(error.filename, root)} line {error.lineno}"
    found = [(file, line) for file, line in frames(error) if is_below(file, root)]
    return f"{_shown(found[-1][0], root)} line {found[-1][1]}" if found else ""


def code_root(module: str) -> str:
    """Return the folder or file with the code of a plugin's module, or ""."""
    if module.endswith(".py"):
        return os.path.realpath(module)
    parts = module.partition(":")[0].split(".")
    package = ".".join(parts[:3] if module.startswith(_BUNDLED) else parts[:1])
    try:
        loaded = sys.modules.get(package)
        spec = loaded.__spec__ if loaded else importlib.util.find_spec(package)
    except (ImportError, ValueError, AttributeError):
        return ""
    if spec is None:
        return ""
    folders = list(spec.submodule_search_locations or ())
    return os.path.realpath(folders[0] if folders else spec.origin or "")


def frames(error: BaseException) -> list[tuple[str, int]]:
    """Return file and line of each frame of an exception's traceback, outermost first."""
    found = []
    trace: TracebackType | None = error.__traceback__
    while trace is not None:
        found.append((trace.tb_frame.f_code.co_filename, trace.tb_lineno))
        trace = trace.tb_next
    return found


def is_below(file: str, root: str) -> bool:
    """Return whether a file is `root`, or in the folder `root`."""
    real = os.path.realpath(file)
    return bool(root) and (real == root or real.startswith(root + os.sep))


def _shown(file: str, root: str) -> str:
    return os.path.relpath(os.path.realpath(file), os.path.dirname(root))
