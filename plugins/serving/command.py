"""``sentikit serve``."""

from __future__ import annotations

import contextlib
import ipaddress
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sentikit import InputError, SentikitError
from sentikit.extension import (
    DEVICE,
    LABEL_MAP,
    REVISION,
    THREADS,
    FiniteRange,
    complete_classifier,
    find_key,
    label_map_of,
)

if TYPE_CHECKING:
    from sentikit import Classifier, Prediction

#: Environment variable (or line of ``.env``) with the key that clients must send.
KEY = "SENTIKIT_SERVE_KEY"
_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})


@click.command(
    epilog="\b\nExample:\n"
    "  sentikit serve runs/quickstart --port 8080\n"
    "  curl http://127.0.0.1:8080/predict -H 'content-type: application/json' "
    '-d \'{"inputs": "I love it"}\''
)
@click.argument("classifier", metavar="X", shell_complete=complete_classifier)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    help="Port to listen on; 0: a free one.",
)
@click.option(
    "--max-cost",
    type=FiniteRange(min=0, min_open=True),
    metavar="USD",
    help="Cost ceiling per day (UTC), in USD.",
)
@click.option(
    "--cache",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("runs/serve.sqlite"),
    show_default=True,
    help="File for paid answers and the day's spending.",
)
@click.option(
    "--most-texts",
    type=click.IntRange(1),
    default=1024,
    show_default=True,
    help="Most texts of a request.",
)
@click.option(
    "--most-waiting",
    type=click.IntRange(1),
    default=4096,
    show_default=True,
    help="Most texts that may wait; further requests get 429.",
)
@DEVICE
@THREADS
@click.option("--calibrated", is_flag=True, help="Serve calibrated probabilities.")
@REVISION
@LABEL_MAP
def serve(
    classifier: str,
    host: str,
    port: int,
    max_cost: float | None,
    cache: Path,
    most_texts: int,
    most_waiting: int,
    device: str,
    threads: int | None,
    calibrated: bool,
    revision: str | None,
    label_map: tuple[str, ...],
) -> None:
    """Serve X, whatever `sentikit predict` takes, over HTTP.

    The routes are those of text-embeddings-inference: POST /predict, GET /info, /health, /metrics;
    /docs and /openapi.json describe them. Listening on other addresses than this machine's
    own needs SENTIKIT_SERVE_KEY, which clients send as "Authorization: Bearer KEY".
    """
    key = find_key(KEY)
    local = _is_loopback(host)
    if not local and key is None:
        raise InputError(
            f"--host {host} lets other machines in. Set {KEY} in the environment or in .env, or "
            "leave --host out."
        )
    from sentikit.extension import LoadingOptions, find_classifier

    options = LoadingOptions(
        device=device,
        calibrated=calibrated,
        revision=revision,
        label_map=label_map_of(label_map),
    )
    found = find_classifier(classifier, options)
    found.check_keys()
    with contextlib.closing(_bound(host, port)) as listener:
        uvicorn = _needed()
        from sentikit.extension import EncoderClassifier, set_threads

        from .server import Limits, build_app

        set_threads(threads)
        loaded = found.load()
        limits = Limits(
            key=key,
            hosts=_LOCAL_NAMES if local and key is None else None,
            texts=most_texts,
            waiting=most_waiting,
            workers=1 if isinstance(loaded, EncoderClassifier) else 8,
        )
        with contextlib.closing(DailyBudget(loaded, cache, max_cost)) as budget:
            app = build_app(loaded, classifier, budget.classify, limits, budget.probing)
            listener.listen(2048)
            click.echo(f"http://{_address(listener)} serves {classifier}. Ctrl-C stops.", err=True)
            config = uvicorn.Config(
                app,
                # Logging malformed requests would let any client fill the log.
                log_level="error",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=30,
            )
            # After stopping, the server raises the signal again; ignore SIGTERM then.
            signal.signal(signal.SIGTERM, lambda number, frame: None)
            uvicorn.Server(config).run(sockets=[listener])


def _needed() -> Any:
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import uvicorn
    except ImportError as error:
        raise InputError(
            f"Serving needs the extra serve ({error.name} is missing): "
            "pip install 'sentikit[serve]'"
        ) from error
    return uvicorn


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _bound(host: str, port: int) -> socket.socket:
    """Return a socket, bound before anything heavy is loaded.

    Raises:
        InputError: the port is taken, or the address does not belong to this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host.strip("[]"), port))
    except OSError as error:
        listener.close()
        reason = (error.strerror or str(error)).lower()
        raise InputError(
            f"--host {host} --port {port}: {reason}. Choose another port with --port, or 0 for any "
            "free one."
        ) from error
    return listener


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class DailyBudget:
    """A classifier with a daily budget; spending is stored in the cache and survives restarts."""

    def __init__(
        self,
        classifier: Classifier,
        cache: Path,
        max_cost: float | None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._classifier, self._cache, self._max_cost = classifier, cache, max_cost
        self._now = now
        self._changed = threading.Condition()
        self._day = ""
        self._session: Any = None
        self._users = 0
        self._probed = 0.0

    def classify(self, texts: list[str]) -> Sequence[Prediction]:
        """Return the predictions of texts.

        Raises:
            BudgetError: the day's budget is spent.
        """
        from sentikit.extension import BudgetSpentError

        from .server import BudgetError

        try:
            with self._today() as session:
                return list(self._classifier.classify(texts, session))
        except SentikitError as error:
            if not isinstance(error.__cause__, BudgetSpentError):
                raise
            now = self._now()
            tomorrow = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
            message = f"The budget of {self._max_cost:g} USD a day is spent."
            raise BudgetError(message, max(1, int((tomorrow - now).total_seconds()))) from error

    def probing(self) -> float:
        """Return the USD spent on probing the providers' servers; NaN if a price is unknown."""
        session = self._session
        return self._probed + (0.0 if session is None else _probing(session))

    def close(self) -> None:
        """Close the session."""
        if self._session is not None:
            self._session.close()
            self._probed += _probing(self._session)
            self._session = None

    @contextlib.contextmanager
    def _today(self) -> Iterator[Any]:
        """Provide today's session, once yesterday's is no longer used and closed.

        They must not overlap, since a backend keeps its connections for one session's event loop.
        """
        from sentikit.extension import Limits, RequestSession

        with self._changed:
            while (day := self._now().date().isoformat()) != self._day and self._users:
                self._changed.wait()
            if day != self._day:
                self.close()
                limits = Limits(max_cost=self._max_cost)
                self._session = RequestSession(f"serve {day}", self._cache, limits)
                self._day = day
            self._users += 1
            session = self._session
        try:
            yield session
        finally:
            with self._changed:
                self._users -= 1
                self._changed.notify_all()


def _probing(session: Any) -> float:
    picodollars = session.opening_cost
    return float("nan") if picodollars is None else picodollars / 1e12
