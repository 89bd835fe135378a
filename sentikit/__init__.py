"""sentikit: sentiment labelling with encoders, LLMs and ensembles of both.

>>> import sentikit
>>> classifier = sentikit.load("runs/my-run")  # doctest: +SKIP
>>> classifier.predict(["I love it"])  # doctest: +SKIP
['positive']

``__init__.pyi`` lists the names for programs, ``extension.pyi`` those for plugin authors. Names are
imported on first use.
"""

from __future__ import annotations

import warnings
from typing import Any

from sentikit import extension
from sentikit.extension import imported, listed_names

__version__ = "0.1.0"
_NAMES = listed_names(__file__)
__all__ = ["__version__", *_NAMES]  # noqa: PLE0604 - a list of texts


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return imported(_NAMES[name], name)
    if name in extension.OLD_NAMES:
        return getattr(extension, name)
    if name in extension.__all__:
        warnings.warn(
            f"sentikit.{name} moves: import it from sentikit.extension. The old place works until "
            "the next release.",
            DeprecationWarning,
            stacklevel=2,
        )
        return getattr(extension, name)
    raise AttributeError(f"module 'sentikit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
