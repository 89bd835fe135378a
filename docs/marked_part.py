"""The part of a page that is made from the code, between two comments."""

from __future__ import annotations

import sys
from pathlib import Path


def write_or_check(page: Path, made: str) -> None:
    """Put `made` between the page's two marks; with `--check` only exit 1 if it differs."""
    begin, end = "<!-- made by make docs: begin -->\n", "<!-- made by make docs: end -->\n"
    old = page.read_text(encoding="utf-8")
    before, rest = old.split(begin)
    new = f"{before}{begin}\n{made}\n{end}{rest.split(end)[1]}"
    if "--check" in sys.argv:
        sys.exit(0 if old == new else f"docs/{page.name}: run `make docs`")
    page.write_text(new, encoding="utf-8")
