"""The generator of docs/compare.schema.json, from the result types; `--check` only compares."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from sentikit.comparison.results import LAYOUT, Findings

TARGET = Path(__file__).parent / "compare.schema.json"


def schema() -> dict[str, Any]:
    """Return the JSON schema of `sentikit compare --json`."""
    made = TypeAdapter(Findings).json_schema(mode="serialization")
    for described in [made, *made["$defs"].values()]:
        described["additionalProperties"] = False
        described["required"] = list(described["properties"])
        for own in described["properties"].values():
            own.pop("title", None)
            own.pop("default", None)
    made["properties"] = {"layout": {"const": LAYOUT}} | made["properties"]
    made["required"] = ["layout", *made["required"]]
    made["title"] = "sentikit compare --json"
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | made


def text() -> str:
    """Return the file."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(TARGET.read_text() != text() and f"{TARGET} is out of date: make docs")
    TARGET.write_text(text())
