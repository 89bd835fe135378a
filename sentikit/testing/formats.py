"""What is expected of formats: of model folders, and of result files."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sentikit.classifiers.model_format import ModelFormat
from sentikit.runs.result_format import ResultColumns, ResultFormat
from sentikit.testing.parts import check_part, require


def check_format(format_class: type[ModelFormat], settings: Mapping[str, Any]) -> None:
    """Show a format of model folders two folders that are certainly not of it.

    Raises:
        AssertionError: it cannot be made from its defaults, or claims what is not its own.
    """
    check_part(format_class, {}, ("format",))
    model_format = check_part(format_class, settings, ("format",))
    name = format_class.__name__
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        require(model_format.recognises(folder) is False, f"{name} recognises an empty folder.")
        (folder / "config.json").write_text(json.dumps({"made_by": "nobody"}), encoding="utf-8")
        require(model_format.recognises(folder) is False, f"{name} recognises any config.json.")


def check_result_format(format_class: type[ResultFormat], settings: Mapping[str, Any]) -> None:
    """Show a format of result files columns that are certainly not its own.

    Raises:
        AssertionError: it claims them, or names columns that are not there.
    """
    result_format = check_part(format_class, settings)
    name = format_class.__name__
    for columns in ((), ("text",), ("a", "b")):
        found = result_format.columns(columns)
        require(
            found is None or isinstance(found, ResultColumns),
            f"{name}.columns() must return ResultColumns or None, not {found!r}.",
        )
        named = [] if found is None else [v for v in asdict(found).values() if isinstance(v, str)]
        absent = sorted(set(named) - set(columns))
        require(
            not absent, f"{name}.columns({columns}) names columns that are not there: {absent}."
        )
