"""Lines of fine-tuning files: messages and the answer to learn, as chat models are trained."""

from __future__ import annotations

import json
from collections.abc import Sequence

from sentikit.llm.messages import Message


def training_line(messages: Sequence[Message], label: str) -> str:
    """Return one line of JSON Lines, newline included: the messages, then the label as answer.

    The format is that of supervised fine-tuning at OpenAI and compatible services
    (https://platform.openai.com/docs/guides/supervised-fine-tuning); characters outside ASCII are
    escaped, as in the study's files.
    """
    spoken = [message.to_json() for message in [*messages, Message("assistant", label)]]
    return json.dumps({"messages": spoken}) + "\n"
