"""A server's address and credentials: settings, keys, tokens and proxies."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import shlex
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field

from sentikit import InputError
from sentikit.extension import (
    ComponentSettings,
    FatalError,
    find_key,
    may_hold_a_key,
    parsed_address,
    without_secrets,
)

_SECRET_WORDS = ("key", "token", "secret", "password", "signature", "authorization", "cookie")
#: Patterns of common keys: after a scheme, with a provider's prefix, a JSON web token.
_KEY_LIKE = re.compile(
    r"^(bearer|basic)\s|\b(sk|pk|rk|hf|gsk|xai|nvapi|ghp|glpat)[-_][\w-]{16,}"
    r"|\bAIza[\w-]{20,}|\beyJ[\w-]{10,}\.",
    re.IGNORECASE,
)
#: Named like a secret but not one: it groups requests for the provider's prompt cache.
_HARMLESS = "prompt_cache_key"
_VARIABLE = "OPENAI_BASE_URL"
_TOKEN_SECONDS = 30.0
_NO_ADDRESS = "must be an address such as http://localhost:8000/v1"
OPENAI_URL = "https://api.openai.com/v1"


def _address(url: str | None) -> str | None:
    """Refuse malformed addresses."""
    if url is None:
        return None
    # An address that may contain a key is refused later, without showing it.
    if parsed_address(url) is None and not may_hold_a_key(url):
        raise ValueError(_NO_ADDRESS)
    return url.rstrip("/")


def _held_keys(values: Any, place: str) -> Iterator[str]:
    """Yield the places in nested values that seem to hold a key."""
    if isinstance(values, list):
        for number, value in enumerate(values):
            yield from _held_keys(value, f"{place}.{number}")
    if not isinstance(values, Mapping):
        return
    for name, value in values.items():
        named = str(name).lower().endswith(_SECRET_WORDS) and name != _HARMLESS
        shaped = isinstance(value, str) and (
            _KEY_LIKE.search(value) or without_secrets(value, {}) != value
        )
        secret = named or shaped
        if secret and isinstance(value, str):
            yield f"{place}.{name}"
        yield from _held_keys(value, f"{place}.{name}")


class ServerSettings(ComponentSettings):
    """The server and the model."""

    #: The recipe's section that has these keys, for messages.
    section: ClassVar[str] = "llm"

    model: str = Field(min_length=1, description="the model's name, as the server knows it")
    base_url: Annotated[str | None, AfterValidator(_address)] = Field(
        None, description="another server's address, usually ending in /v1; null: OpenAI's"
    )
    key_variable: str = Field(
        "OPENAI_API_KEY", description="environment variable (or line of .env) that holds the key"
    )
    header_variables: dict[str, str] = Field(
        default_factory=dict, description="more headers, each from an environment variable"
    )
    headers: dict[str, str | None] = Field(
        default_factory=dict, description="more headers, as they are; null leaves one out"
    )
    query: dict[str, str] = Field(
        default_factory=dict, description="query parameters, such as Azure's api-version"
    )

    @property
    def address(self) -> str:
        """The server's address, from the recipe, OPENAI_BASE_URL or OpenAI's own."""
        if self.base_url:
            return self.base_url
        try:
            return _address(os.environ.get(_VARIABLE, "").strip() or OPENAI_URL) or OPENAI_URL
        except ValueError as error:
            raise InputError(
                f"The environment variable {_VARIABLE} {error}, not {os.environ[_VARIABLE]!r}. "
                f"Correct it, unset it, or give {self.section}.base_url."
            ) from error

    @property
    def address_key(self) -> str:
        """The recipe's key, or the environment variable, that sets the address."""
        given = self.base_url or not os.environ.get(_VARIABLE, "").strip()
        return f"{self.section}.base_url" if given else _VARIABLE

    @property
    def host(self) -> str:
        """The server's name; "" where the address has none."""
        parts = parsed_address(self.address)
        return "" if parts is None else str(parts.hostname)

    @property
    def is_openai(self) -> bool:
        """Whether this is OpenAI itself."""
        return self.host.endswith("api.openai.com")

    def refuse_secrets(self) -> None:
        """Refuse keys in what is written into a run, without showing them."""
        for key, variables in (
            ("key_variable", [self.key_variable]),
            ("header_variables", self.header_variables.values()),
        ):
            for variable in variables:
                _refuse_no_variable(variable, f"{self.section}.{key}")
        parts, section = parsed_address(self.address), self.section
        if parts is None or parts.username or parts.password or parts.query:
            raise InputError(
                f"{self.address_key} contains a user, a password or a query, and is written into "
                f"the run. Give keys by {section}.key_variable or {section}.header_variables, and "
                f"other parameters by {section}.query."
            )
        self._refuse_keys("query", self.query)
        self._refuse_keys("headers", self.headers)

    def _refuse_keys(self, name: str, values: Mapping[str, Any]) -> None:
        """Refuse the setting `name` if one of its values seems to be a key."""
        held = next(_held_keys(values, f"{self.section}.{name}"), None)
        if held is not None:
            raise InputError(
                f"{held} seems to hold a key, and recipes are written into the run. Give it by "
                f"{self.section}.header_variables."
            )


def _refuse_no_variable(name: str, setting: str) -> None:
    try:
        find_key(name)
    except InputError as error:
        raise InputError(f"{setting}: {error.message}") from error


class OpenAISettings(ServerSettings):
    """The server, the model, and how to ask it."""

    api: Literal["chat", "responses"] = Field(
        "chat", description="chat completions, or OpenAI's Responses API"
    )
    cache_name: str | None = Field(
        None,
        min_length=1,
        description="replaces the address in cache keys, so that several gateways to one model "
        "share paid answers; null: the address",
    )
    guarantee: Literal["auto", "json_schema", "choice", "grammar", "tool", "text"] = Field(
        "auto", description="how a label is guaranteed; auto: the strongest way the server has"
    )
    reasoning_effort: str | None = Field(
        None, description="none, low, medium, high…; null leaves it to the server"
    )
    service_tier: str | None = Field(None, description="auto, default, flex, priority or fast")
    prompt_cache_key: str | None = Field(
        None, description="groups requests for the provider's prompt cache; null: by prompt"
    )
    extra_body: dict[str, Any] = Field(
        default_factory=dict, description="more keys for every request, if this server needs them"
    )

    def refuse_secrets(self) -> None:
        super().refuse_secrets()
        self._refuse_keys("extra_body", self.extra_body)


#: A file may have this many bytes; a larger one goes through the Uploads API.
FILE_BYTES, PART_BYTES = 512 * 10**6, 64 * 2**20

Auto = Literal["auto"]


class WeightsAndBiases(ComponentSettings):
    """Where the provider reports the job to; your account there needs your W&B key."""

    project: str = Field(description="the project's name")
    name: str | None = Field(None, description="the run's name; null: the job's id")
    entity: str | None = Field(None, description="the team or user")
    tags: list[str] = Field(default_factory=list, description="more tags of the run")


class OpenAIFineTuningSettings(ServerSettings):
    """The settings of a fine-tuning job."""

    section: ClassVar[str] = "finetune"

    epochs: Annotated[int, Field(ge=1, le=50)] | Auto = Field(
        "auto", description="passes over the examples; auto: the provider decides"
    )
    batch_size: Annotated[int, Field(ge=1, le=256)] | Auto = Field(
        "auto", description="examples per step; auto: the provider decides"
    )
    learning_rate_multiplier: Annotated[float, Field(gt=0)] | Auto = Field(
        "auto", description="multiplies the provider's learning rate; auto: the provider decides"
    )
    seed: int = Field(42, ge=0, le=2**31 - 1, description="the same seed gives similar results")
    suffix: str | None = Field(
        None, min_length=1, max_length=64, description="part of the fine-tuned model's name"
    )
    wandb: WeightsAndBiases | None = Field(
        None, description="let the provider report to Weights & Biases as well"
    )
    poll_seconds: float = Field(10.0, gt=0, description="seconds between two polls of the job")
    patience: float = Field(
        3600.0,
        ge=0,
        description="seconds without any answer after which sentikit stops following the job",
    )
    file_bytes: int = Field(
        FILE_BYTES, ge=1, le=FILE_BYTES, description="a larger file is uploaded in parts"
    )
    part_bytes: int = Field(PART_BYTES, ge=1, le=PART_BYTES, description="bytes of such a part")


class TokenCommand:
    """A user's command that prints a fresh token.

    Only the environment can name it (``OPENAI_API_KEY_COMMAND`` beside ``OPENAI_API_KEY``), so that
    a recipe or ``.env`` file from elsewhere starts no program. It is split like a shell command,
    but no shell runs it.
    """

    def __init__(self, variable: str) -> None:
        self._variable = variable
        self._command = os.environ.get(variable, "").strip()
        self._token = ""
        self._lock = asyncio.Lock()

    def __bool__(self) -> bool:
        return bool(self._command)

    async def token(self, refused: str | None = None) -> str:
        """Return the token; a new one if there is none yet or the last was refused."""
        async with self._lock:
            if not self._token or self._token == refused:
                self._token = await self._run()
            return self._token

    async def _run(self) -> str:
        try:
            arguments = shlex.split(self._command)
            process = await asyncio.create_subprocess_exec(
                *arguments, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
            )
        except (OSError, ValueError) as error:
            raise FatalError(f"{self._variable} cannot be run: {error}.") from error
        try:
            async with asyncio.timeout(_TOKEN_SECONDS):
                printed, _ = await process.communicate()
        except TimeoutError:
            raise FatalError(
                f"{self._variable} printed no token within {_TOKEN_SECONDS:g} s."
            ) from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        token = printed.decode("utf-8", "replace").strip()
        if process.returncode or not token:
            raise FatalError(f"{self._variable} printed no token (exit code {process.returncode}).")
        return _sendable(token, self._variable)


def find_secrets(settings: ServerSettings) -> dict[str, str]:
    """Return the credentials, by the name of the key's variable or of the header.

    Raises:
        InputError: one is not set.
    """
    found = {}
    key = find_key(settings.key_variable)
    if not key and settings.is_openai and not TokenCommand(f"{settings.key_variable}_COMMAND"):
        raise InputError(
            f"There is no key for OpenAI. Set {settings.key_variable} in the environment or in "
            f"a file .env, or name another server with --set {settings.section}.base_url=…"
        )
    if key:
        found[settings.key_variable] = _sendable(key, settings.key_variable)
    for name, variable in settings.header_variables.items():
        value = find_key(variable)
        if not value:
            raise InputError(
                f"{settings.section}.header_variables: {variable} is not set, for header {name!r}."
            )
        found[name] = _sendable(value, variable)
    return found


def _sendable(secret: str, variable: str) -> str:
    """Refuse a secret that no header can carry; an attempt to send it would show it."""
    if secret.isascii() and secret.isprintable():
        return secret
    raise InputError(
        f"{variable} contains a line break or a character that no key has. Copy the key again, "
        "in one piece."
    )


def proxy_variable(address: str) -> str:
    """Return the environment variable that names the HTTP proxy for an address, or ""."""
    parts = urllib.parse.urlsplit(address)
    proxies = urllib.request.getproxies()
    kind = next((name for name in (parts.scheme, "all") if proxies.get(name)), None)
    if kind is None or urllib.request.proxy_bypass(parts.netloc):
        return ""
    spellings = (f"{kind.upper()}_PROXY", f"{kind}_proxy")
    variable = next((name for name in spellings if os.environ.get(name)), spellings[0])
    scheme = proxies[kind].partition("://")[0].lower() if "://" in proxies[kind] else "http"
    if scheme not in ("http", "https"):
        raise InputError(
            f"{variable} names a proxy of the kind {scheme}, and only HTTP proxies are supported. "
            f"Unset it, or add {parts.hostname} to NO_PROXY."
        )
    return variable


def proxy_of(address: str) -> tuple[str | None, dict[str, str]]:
    """Return the proxy that the environment names for an address, and its credentials.

    HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY, as
    https://docs.python.org/3/library/urllib.request.html#urllib.request.getproxies reads them.
    """
    parts = urllib.parse.urlsplit(address)
    proxies = urllib.request.getproxies()
    named = proxies.get(parts.scheme) or proxies.get("all")
    if named is None or urllib.request.proxy_bypass(parts.netloc):
        return None, {}
    proxy = urllib.parse.urlsplit(named if "://" in named else f"http://{named}")
    signed_in, _, host = proxy.netloc.rpartition("@")
    bare = proxy._replace(netloc=host).geturl()
    if not signed_in:
        return bare, {}
    credentials = base64.b64encode(urllib.parse.unquote_to_bytes(signed_in)).decode("ascii")
    return bare, {"Proxy-Authorization": f"Basic {credentials}"}
