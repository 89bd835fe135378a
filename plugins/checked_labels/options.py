"""Options that several of the commands share."""

from __future__ import annotations

from pathlib import Path

import click

from sentikit.extension import FiniteRange

FILE = click.Path(path_type=Path, dir_okay=False)
#: A probability or share strictly between 0 and 1.
RATE = FiniteRange(0, 1, min_open=True, max_open=True)
TEXT_COLUMNS = click.option(
    "--text-column",
    "text_columns",
    metavar="C",
    multiple=True,
    help="The column of the texts, or a path in it, as review.text; repeated, they are joined.",
)
