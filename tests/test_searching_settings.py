"""The page on searching settings: its code runs as it stands."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "docs" / "searching-settings.md"


def test_the_code_of_the_searching_page_runs_and_finds_settings() -> None:
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the libraries, about themselves
            exec(compile(block, str(PAGE), "exec"), names)
    assert names["search"].best_params_.keys() == {"classifier__c", "classifier__longest"}
    assert names["search"].best_score_ > 0.9
    assert len(names["study"].trials) == 5
    assert names["study"].best_value > 0.8
