"""A conformance kit: what the core expects of a plugin, for plugin authors to run in their tests.

A whole test module of a plugin with a dataset and a head::

    from film_club.dataset import Reviews
    from film_club.head import BottleneckHead

    from sentikit.plugins.plugin_kit.checks import check_dataset, check_head, check_plugin


    def test_the_plugin():
        # All that it registers; components named in settings are also tried with these.
        check_plugin("film_club", settings={"film-reviews": {"path": "tests/reviews"}})


    def test_the_dataset():
        check_dataset(Reviews, {"path": "tests/reviews"})


    def test_the_head():
        check_head(BottleneckHead, {"width": 8})

Every function returns nothing and raises ``AssertionError`` with a sentence that says what is
expected. Settings are given as a recipe's section has them, without the component's name.
``sentikit plugins check`` runs the same checks from the command line.
"""

import warnings
from typing import Any

from .classifiers import check_classifier, check_metric, check_report_format
from .components import check_component
from .data import check_command, check_dataset, check_recipe, check_table_format
from .engines import check_engine
from .examination import check_plugin, check_tracker
from .llm import check_fine_tuner, check_llm_backend, check_prompt_strategy
from .models import check_encoder, check_format, check_head, check_result_format

__all__ = [
    "check_classifier",
    "check_command",
    "check_component",
    "check_dataset",
    "check_encoder",
    "check_engine",
    "check_fine_tuner",
    "check_format",
    "check_head",
    "check_llm_backend",
    "check_metric",
    "check_plugin",
    "check_prompt_strategy",
    "check_recipe",
    "check_report_format",
    "check_result_format",
    "check_table_format",
    "check_tracker",
]


def __getattr__(name: str) -> Any:
    if name != "check_part":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(
        "check_part is now check_component. The old name works until the next release.",
        DeprecationWarning,
        stacklevel=2,
    )
    return check_component
