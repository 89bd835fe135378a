"""What is expected of a tracker."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sentikit.testing.parts import check_part
from sentikit.tracking import TrackedRun, Tracker


def check_tracker(tracker_class: type[Tracker], settings: Mapping[str, Any]) -> None:
    """Show a tracker a short run; give settings that keep it off the network.

    Raises:
        AssertionError: its settings break a rule. Whatever the tracker itself raises comes through.
    """
    tracker = check_part(tracker_class, settings)
    with tempfile.TemporaryDirectory() as temporary:
        recipe = {"kind": "train", "training": {"lr": 1e-5}}
        tracker.start(TrackedRun(kind="train", path=Path(temporary) / "run", recipe=recipe))
        step = {"kind": "step", "step": 1, "epoch": 1, "loss": 0.7, "gradient_norm": None}
        tracker.log(step)
        tracker.log({"kind": "epoch", "step": 1, "epoch": 1, "validation_macro_f1": 0.5})
        tracker.log({"kind": "of a later version", "step": 1})
        tracker.alert("Training collapsed", "Every text is called 'positive'.")
        tracker.finish({"overall": {"macro_f1": 0.5}}, "finished")
