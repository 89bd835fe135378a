"""The extension points of sentikit.

A plugin is a module (or object) behind an entry point of the group ``sentikit``. It implements any
of these hooks, decorated with ``sentikit.hookimpl``. Each hook receives the callback ``register``,
which validates a name at the plugin's own line::

    from sentikit import hookimpl

    @hookimpl
    def register_heads(register):
        register("attention", f"{__name__}.head:AttentionHead", summary="one attention layer")

A target is the class itself or, so that the command line stays quick, the string
``"package.module:Class"``, imported when the component is first used.
"""

from __future__ import annotations

from typing import Any, Protocol

import pluggy

PROJECT = "sentikit"
#: Environment variable with the names of plugins to switch off, separated by commas.
DISABLE_VARIABLE = "SENTIKIT_DISABLE_PLUGINS"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class Register(Protocol):
    """The callback a hook receives."""

    def __call__(self, name: str, target: Any, *, summary: str = "") -> None:
        """Offer `target` under `name`, with one line for the lists.

        Raises:
            sentikit.errors.InputError: the name or the target is malformed, or this plugin has
                registered the name before.
        """


@hookspec
def register_datasets(register: Register) -> None:
    """Offer datasets: subclasses of ``DatasetLoader``."""


@hookspec
def register_table_formats(register: Register) -> None:
    """Offer formats of tables, under the ending of their files: subclasses of ``TableFormat``."""


@hookspec
def register_encoders(register: Register) -> None:
    """Offer encoders (tokenizer and pretrained backbone): subclasses of ``Encoder``."""


@hookspec
def register_heads(register: Register) -> None:
    """Offer classification heads: subclasses of ``Head``."""


@hookspec
def register_classifiers(register: Register) -> None:
    """Offer whole classifiers: subclasses of ``PluginClassifier``."""


@hookspec
def register_llm_backends(register: Register) -> None:
    """Offer LLM backends, whatever answers chat messages: subclasses of ``LLMBackend``."""


@hookspec
def register_prompt_strategies(register: Register) -> None:
    """Offer prompt strategies (example to messages): subclasses of ``PromptStrategy``."""


@hookspec
def register_engines(register: Register) -> None:
    """Offer engines, how training steps run: subclasses of ``Engine``."""


@hookspec
def register_recipes(register: Register) -> None:
    """Offer recipes: the target is the path of a YAML file."""


@hookspec
def register_trackers(register: Register) -> None:
    """Offer experiment trackers: subclasses of ``Tracker``."""


@hookspec
def register_formats(register: Register) -> None:
    """Offer formats of model folders made elsewhere: subclasses of ``ModelFormat``."""


@hookspec
def register_result_formats(register: Register) -> None:
    """Offer layouts of result files made elsewhere: subclasses of ``ResultFormat``."""


@hookspec
def register_metrics(register: Register) -> None:
    """Offer metrics of predictions: subclasses of ``Metric``."""


@hookspec
def register_reports(register: Register) -> None:
    """Offer formats of reports, pages and plots of findings: subclasses of ``ReportFormat``."""


@hookspec
def register_commands(register: Register) -> None:
    """Offer commands: the target is a ``click.Command``, the summary its line in ``--help``.

    A name of two words, as ``runs prune``, adds a subcommand to one of the core's groups.
    """


#: By hook: what messages call its components, and the class of `sentikit.extension` that they
#: derive from; recipes are files, commands click's.
_COMPONENTS: dict[str, tuple[str, str]] = {
    "register_datasets": ("dataset", "DatasetLoader"),
    "register_table_formats": ("table format", "TableFormat"),
    "register_encoders": ("encoder", "Encoder"),
    "register_heads": ("head", "Head"),
    "register_classifiers": ("classifier", "PluginClassifier"),
    "register_llm_backends": ("LLM backend", "LLMBackend"),
    "register_prompt_strategies": ("prompt strategy", "PromptStrategy"),
    "register_engines": ("engine", "Engine"),
    "register_recipes": ("recipe", ""),
    "register_trackers": ("tracker", "Tracker"),
    "register_formats": ("format", "ModelFormat"),
    "register_result_formats": ("result format", "ResultFormat"),
    "register_metrics": ("metric", "Metric"),
    "register_reports": ("report format", "ReportFormat"),
    "register_commands": ("command", ""),
}
KINDS = {hook: kind for hook, (kind, _) in _COMPONENTS.items()}
INTERFACES = {hook: interface for hook, (_, interface) in _COMPONENTS.items() if interface}
