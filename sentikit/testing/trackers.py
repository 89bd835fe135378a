"""What is expected of a tracker."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sentikit.classifiers.prediction import Usage
from sentikit.llm.backend import Answer, ChatRequest
from sentikit.llm.messages import Message
from sentikit.testing.parts import check_part
from sentikit.tracking import LLMCall, TrackedRun, Tracker

_CALL = LLMCall(
    request=ChatRequest((Message("user", "Review: I love it"),), ("negative", "positive")),
    model="some-model",
    parameters={"temperature": 0.0},
    began=1_700_000_000.0,
    seconds=0.5,
    answer=Answer("positive", Usage(prompt=20, completion=1)),
    label="positive",
    cost=0.0001,
)


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
        tracker.call(_CALL)
        tracker.call(replace(_CALL, answer=None, label=None, reason="network", error="Reset."))
        tracker.alert("Training collapsed", "Every text is called 'positive'.")
        tracker.finish({"overall": {"macro_f1": 0.5}}, "finished")
