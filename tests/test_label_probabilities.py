"""Label probabilities from token log-probabilities, wherever the tokens' borders are."""

from __future__ import annotations

import math
from typing import Any

from sentikit.plugins.openai_backend.responses import label_log_probabilities, read_tokens

LABELS = ("negative", "neutral", "positive")


def token(text: str, **others: float) -> dict[str, Any]:
    """A token with its alternatives' probabilities; its own is what they leave."""
    own = 1 - sum(others.values())
    listed = {text: own} | {name.replace("_", " "): p for name, p in others.items()}
    top = [{"token": t, "logprob": math.log(p)} for t, p in listed.items()]
    return {"token": text, "logprob": math.log(own), "top_logprobs": top}


def found(*tokens: dict[str, Any]) -> dict[str, float] | None:
    logs = label_log_probabilities(tuple(read_tokens(list(tokens))), LABELS)
    return None if logs is None else {k: round(math.exp(v), 6) for k, v in logs.items()}


def test_probabilities_come_from_whole_word_tokens() -> None:
    assert found(token("positive", negative=0.2, neutral=0.1)) == {
        "positive": 0.7,
        "negative": 0.2,
        "neutral": 0.1,
    }


def test_a_token_prefix_shared_by_two_labels_is_followed() -> None:
    """`ne` may still become either: its probability is split by what comes next."""
    tokens = [token("ne", pos=0.5), token("utral", gative=0.2)]
    assert found(*tokens) == {"positive": 0.5, "neutral": 0.4, "negative": 0.1}


def test_probabilities_of_a_labels_spellings_are_summed() -> None:
    tokens = [token("positive", Positive=0.2, _positive=0.1, neg=0.3)]
    assert found(*tokens) == {"positive": 0.7, "negative": 0.3}


def test_summed_spellings_are_capped_at_one() -> None:
    top = [{"token": t, "logprob": math.log(p)} for t, p in (("positive", 0.9), ("Positive", 0.4))]
    assert found({**top[0], "top_logprobs": top}) == {"positive": 1.0}


def test_log_probabilities_beyond_any_float_are_ignored() -> None:
    known = {"token": "positive", "logprob": math.log(0.7)}
    assert found(
        {**known, "top_logprobs": [known, {"token": "neutral", "logprob": -(10**400)}]}
    ) == {"positive": 0.7}


def test_the_label_is_found_inside_json() -> None:
    """What leads to the label is certain, whatever its own probability was."""
    start = [token('{"'), token("label"), token('":"', other=0.1)]
    assert found(*start, token("pos", neg=0.25), token('itive"}')) == {
        "positive": 0.75,
        "negative": 0.25,
    }


def test_a_token_that_begins_before_the_label_is_handled() -> None:
    alternatives = {'"positive': 0.6, '"neg': 0.3, '"neutral"': 0.1}
    top = [{"token": t, "logprob": math.log(p)} for t, p in alternatives.items()]
    second = {**top[0], "top_logprobs": top}
    tokens = [token('{"label":'), second, token('"}')]
    assert found(*tokens) == {"positive": 0.6, "negative": 0.3, "neutral": 0.1}


def test_tokens_of_other_words_are_ignored() -> None:
    assert found(token("Well", Hm=0.3), token(",")) is None
    assert label_log_probabilities([], LABELS) is None
    assert label_log_probabilities(tuple(read_tokens(None)), LABELS) is None


def test_a_probability_of_zero_stays_finite() -> None:
    entry = {"token": "neutral", "logprob": float("-inf"), "top_logprobs": None}
    assert found(entry) is None
