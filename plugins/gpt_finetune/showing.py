"""The output of ``sentikit gpt-finetune``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sentikit.extension import usd_text

if TYPE_CHECKING:
    from .examples import PreparedReport
    from .job import FinishedFineTuning


def report_table(report: PreparedReport) -> str:
    """Return the lines about each file."""
    about = "" if report.exact else "about "
    lines = []
    for use, split in report.splits.items():
        shares = (f"{name} {count:,}" for name, count in split.labels.items())
        lines += [
            f"{use}.jsonl  (split {split.split})",
            f"  Examples    {split.examples:,}: {', '.join(shares)}",
            f"  Size        {split.bytes:,} bytes",
            f"  Tokens      {about}{split.tokens:,}, at most {split.longest:,} in one "
            f"(example {split.longest_id})",
            f"  Duplicates  {split.duplicates:,}, {split.contradictions:,} with another label",
        ]
    if "validation" in report.splits:
        lines.append(f"Texts in both files: {report.shared:,}")
    return "\n".join(lines)


def finished_json(finished: FinishedFineTuning) -> dict[str, Any]:
    """Return the result of a fine-tuning; ``model`` is null while its job is running."""
    return {
        "run": str(finished.path),
        "model": finished.model or None,
        "base_model": finished.base_model,
        "cost_usd": finished.cost_usd,
        "metrics": finished.metrics,
    }


def cost_words(usd: float | None) -> str:
    """Return the cost as text after a model's name; "" if nothing was billed."""
    if not usd:
        return ""
    return f", ${usd_text(usd)}"
