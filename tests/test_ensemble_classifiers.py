"""Cascades and votes as classifiers: any members, in order, with flat memory, costs added."""

from __future__ import annotations

import math
import random
import tracemalloc

import pytest
from memory_classifiers import (
    RuleClassifier,
    ThreadedClassifier,
    WindowedClassifier,
    always,
)

from sentikit.chat import Usage
from sentikit.classifiers.cascade import MOST_PENDING, Cascade
from sentikit.classifiers.classifier import Classifier
from sentikit.classifiers.prediction import Prediction
from sentikit.classifiers.vote import Vote
from sentikit.errors import InputError, SentikitError

KINDS = [RuleClassifier, WindowedClassifier, ThreadedClassifier]


def number_of(text: str) -> int:
    return int(text.rpartition(" ")[2])


def sure_of_even(text: str) -> Prediction:
    """An encoder that is sure of even numbers."""
    return Prediction("negative", confidence=0.5 if number_of(text) % 2 else 0.9)


def echo(text: str) -> Prediction:
    """A paid LLM that repeats the text as its answer."""
    return Prediction("positive", answer=text, cost=0.25, paid=0.125, usage=Usage(10, 2, 1, 3))


def texts(count: int) -> list[str]:
    return [f"text {number}" for number in range(count)]


class Short(RuleClassifier):
    """Gives one prediction too few."""

    def classify(self, examples, session=None):  # type: ignore[no-untyped-def]
        yield from list(super().classify(examples))[:-1]


class TestCascade:
    @pytest.mark.parametrize("first", KINDS)
    @pytest.mark.parametrize("last", KINDS)
    @pytest.mark.parametrize("count", [0, 1, 2, 101, MOST_PENDING + 5])
    def test_each_example_gets_the_prediction_of_the_member_that_answers_it(
        self, first: type[RuleClassifier], last: type[RuleClassifier], count: int
    ) -> None:
        encoder, llm = first(sure_of_even), last(echo)
        cascade = Cascade({"encoder": encoder, "llm": llm}, [0.8])
        given = texts(count)
        found = list(cascade.classify(given))
        assert len(found) == count
        for text, prediction in zip(given, found, strict=True):
            if number_of(text) % 2:
                assert (prediction.answered_by, prediction.answer) == ("llm", text)
                assert prediction.adviser == Prediction("negative", confidence=0.5)
                assert (prediction.cost, prediction.paid) == (0.25, 0.125)
            else:
                assert (prediction.answered_by, prediction.label) == ("encoder", "negative")
        assert (encoder.asked, llm.asked) == (count, count // 2)

    def test_a_member_answers_at_and_above_its_threshold(self) -> None:
        first = RuleClassifier(always("negative", 0.8))
        cascade = Cascade({"first": first, "last": RuleClassifier(always("positive"))}, [0.8])
        assert cascade.predict(["a"]) == ["negative"]

    def test_the_highest_probability_is_the_default_confidence(self) -> None:
        shares = {"negative": 0.7, "neutral": 0.2, "positive": 0.1}
        first = RuleClassifier(lambda text: Prediction("negative", shares))
        last = RuleClassifier(always("positive"))
        assert Cascade({"first": first, "last": last}, [0.7]).predict(["a"]) == ["negative"]
        assert Cascade({"first": first, "last": last}, [0.71]).predict(["a"]) == ["positive"]

    def test_each_stage_of_a_cascade_is_asked_about_the_remaining_texts(self) -> None:
        def sure_of_thirds(text: str) -> Prediction:
            return Prediction(
                "neutral", confidence=0.9 if number_of(text) % 3 == 0 else 0.1, cost=1
            )

        members = [RuleClassifier(sure_of_even), WindowedClassifier(sure_of_thirds)]
        last = ThreadedClassifier(echo)
        cascade = Cascade({"a": members[0], "b": members[1], "c": last}, [0.8, 0.6])
        found = list(cascade.classify(texts(12)))
        assert [p.answered_by for p in found] == list("acabacacabac")
        assert [member.asked for member in (*members, last)] == [12, 6, 4]
        assert [p.cost for p in found[:4]] == [0, 1.25, 0, 1]
        assert found[1].adviser == Prediction("negative", confidence=0.5)

    def test_a_cascade_may_be_a_member_of_a_cascade(self) -> None:
        inner = Cascade(
            {"x": RuleClassifier(always("neutral", 0.3)), "y": RuleClassifier(echo)}, [0.5]
        )
        outer = Cascade({"encoder": RuleClassifier(sure_of_even), "rest": inner}, [0.8])
        assert [p.answered_by for p in outer.classify(texts(2))] == ["encoder", "rest/y"]

    def test_costs_and_tokens_of_all_queried_members_are_summed(self) -> None:
        paid_first = RuleClassifier(
            lambda text: Prediction("neutral", confidence=0.1, cost=1, paid=1, usage=Usage(1, 1, 1))
        )
        (found,) = Cascade({"a": paid_first, "b": RuleClassifier(echo)}, [0.5]).classify(["a 1"])
        assert (found.cost, found.paid, found.usage) == (1.25, 1.125, Usage(11, 3, 2, 3))
        unknown = RuleClassifier(always("neutral"))
        unknown.rule = lambda text: Prediction("neutral", cost=None, paid=None)
        (found,) = Cascade({"a": paid_first, "b": unknown}, [0.5]).classify(["a 1"])
        assert (found.cost, found.paid) == (None, None)

    def test_texts_that_the_first_member_cannot_label_go_to_the_next(self) -> None:
        first = RuleClassifier(always(None))
        cascade = Cascade({"a": first, "b": RuleClassifier(echo)}, [0.0])
        assert cascade.predict(["a 1"]) == ["positive"]

    def test_a_failed_answer_keeps_its_place_and_error(self) -> None:
        def fails(text: str) -> Prediction:
            return Prediction(None, error="no answer") if number_of(text) == 3 else echo(text)

        cascade = Cascade({"a": RuleClassifier(sure_of_even), "b": RuleClassifier(fails)}, [0.8])
        found = list(cascade.classify(texts(6)))
        assert [p.label for p in found[2:5]] == ["negative", None, "negative"]
        assert found[3].error == "b: no answer"

    def test_a_first_member_without_confidences_is_refused(self) -> None:
        members = {"mine": RuleClassifier(always("neutral")), "b": RuleClassifier(echo)}
        with pytest.raises(InputError, match="mine gives neither probabilities nor a confidence"):
            Cascade(members, [0.5]).predict(["a"])

    def test_probabilities_are_in_the_order_of_the_first_members_classes(self) -> None:
        shares = {"positive": 0.7, "negative": 0.2, "neutral": 0.1}
        last = RuleClassifier(lambda text: Prediction("positive", shares))
        cascade = Cascade({"a": RuleClassifier(always(None)), "b": last}, [0.5])
        assert cascade.predict_proba(["a"]).tolist() == [[0.2, 0.1, 0.7]]

    def test_members_that_return_a_wrong_number_of_predictions_are_named(self) -> None:
        good = RuleClassifier(sure_of_even)
        with pytest.raises(SentikitError, match="bad gave 1 predictions, but was given more"):
            Cascade({"good": good, "bad": Short(echo)}, [0.8]).predict(texts(4))
        with pytest.raises(SentikitError, match="bad gave 3 predictions, but was given more"):
            Cascade({"bad": Short(sure_of_even), "good": RuleClassifier(echo)}, [0.8]).predict(
                texts(4)
            )

    def test_wrong_numbers_of_members_or_thresholds_and_other_classes_are_refused(self) -> None:
        one = RuleClassifier(always("neutral"))
        with pytest.raises(InputError, match="needs at least two members"):
            Cascade({"a": one}, [])
        with pytest.raises(InputError, match="3 members needs 2 thresholds"):
            Cascade({"a": one, "b": one, "c": one}, [0.5])
        five = RuleClassifier(always("neutral"), "five")
        with pytest.raises(InputError, match="same classes; a has negative, neutral, positive"):
            Cascade({"a": one, "b": five}, [0.5])

    @pytest.mark.slow
    @pytest.mark.parametrize("last", [WindowedClassifier, ThreadedClassifier])
    def test_memory_is_flat_whatever_the_number_of_examples(
        self, last: type[RuleClassifier]
    ) -> None:
        def one_in_ten_unsure(text: str) -> Prediction:
            return Prediction("negative", confidence=0.1 if number_of(text) % 10 == 0 else 0.9)

        def sometimes_fails(text: str) -> Prediction:
            return Prediction(None, error="no") if number_of(text) % 100 == 0 else echo(text)

        def peak(count: int) -> int:
            members = {"a": WindowedClassifier(one_in_ten_unsure), "b": last(sometimes_fails)}
            tracemalloc.start()
            for _ in Cascade(members, [0.8]).classify(f"text {n}" for n in range(count)):
                pass
            found = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            return found

        assert peak(200_000) < 1.1 * peak(20_000)


class TestVote:
    @pytest.mark.parametrize("kinds", [KINDS, KINDS[::-1], KINDS[1:] + KINDS[:1]])
    def test_each_example_gets_the_majority_label(self, kinds: list[type[RuleClassifier]]) -> None:
        labels = {
            (member, number): random.Random(f"{member} {number}").choice(
                ["negative", "neutral", "positive", None]
            )
            for member in range(3)
            for number in range(500)
        }

        def rule(member: int):  # type: ignore[no-untyped-def]
            return lambda text: Prediction(labels[member, number_of(text)], cost=1, paid=0.5)

        members = {f"m{n}": kind(rule(n)) for n, kind in enumerate(kinds)}
        found = list(Vote(members).classify(texts(500)))
        assert len(found) == 500
        for number, prediction in enumerate(found):
            votes = [labels[member, number] for member in range(3)]
            valid = [vote for vote in votes if vote is not None]
            most = max((valid.count(vote) for vote in valid), default=0)
            expected = next((vote for vote in valid if valid.count(vote) == most), None)
            assert (prediction.label, prediction.votes) == (expected, tuple(votes))
            assert (prediction.cost, prediction.paid) == (3, 1.5)
            if expected is not None:
                assert prediction.answered_by == f"m{votes.index(expected)}"
                assert prediction.confidence == pytest.approx(most / 3)

    def test_ties_go_to_the_first_named_or_to_the_highest_mean_probability(self) -> None:
        def shares(*values: float) -> dict[str, float]:
            return dict(zip(("negative", "neutral", "positive"), values, strict=True))

        members = {
            "a": RuleClassifier(lambda text: Prediction("negative", shares(0.5, 0.4, 0.1))),
            "b": RuleClassifier(lambda text: Prediction("neutral", shares(0.1, 0.9, 0.0))),
            "c": RuleClassifier(always("positive")),
        }
        assert Vote(members).predict(["x"]) == ["negative"]
        assert Vote(members, "probability").predict(["x"]) == ["neutral"]

    def test_a_vote_may_be_the_first_stage_of_a_cascade(self) -> None:
        def second(text: str) -> Prediction:
            return Prediction("neutral" if number_of(text) % 2 else "negative")

        pair = Vote({"a": RuleClassifier(always("negative")), "b": RuleClassifier(second)})
        cascade = Cascade({"pair": pair, "llm": RuleClassifier(echo)}, [1.0])
        assert [p.answered_by for p in cascade.classify(texts(2))] == ["pair/a", "llm"]

    def test_an_error_is_kept_if_no_member_answers(self) -> None:
        failing = RuleClassifier(lambda text: Prediction(None, error="overloaded"))
        silent = RuleClassifier(always(None))
        (found,) = Vote({"a": silent, "b": failing}).classify(["x"])
        assert (found.label, found.error) == (None, "b: overloaded")

    def test_members_that_give_different_numbers_of_predictions_are_refused(self) -> None:
        members = {"a": RuleClassifier(always("neutral")), "b": Short(always("neutral"))}
        with pytest.raises(SentikitError, match="The member b gave 2 predictions"):
            Vote(members).predict(texts(3))

    @pytest.mark.slow
    def test_memory_is_flat_whatever_the_number_of_examples(self) -> None:
        def peak(count: int) -> int:
            members = {kind.__name__: kind(always("neutral")) for kind in KINDS}
            tracemalloc.start()
            for _ in Vote(members).classify(f"text {n}" for n in range(count)):
                pass
            found = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            return found

        # How far a thread runs ahead differs from time to time by some texts.
        assert peak(100_000) < peak(10_000) + 200_000


MALFORMED = {
    "NaN": (
        Prediction("neutral", {"negative": math.nan, "neutral": 0.5, "positive": 0.5}),
        "float",
    ),
    "a sum above 1": (
        Prediction("neutral", {"negative": 0.5, "neutral": 0.9, "positive": 0.5}),
        "sum to 1.9",
    ),
    "a class left out": (Prediction("neutral", {"neutral": 1.0}), "one for each of negative"),
    "a label of another scheme": (Prediction("joy", confidence=0.9), "the label 'joy'"),
    "a confidence above 1": (Prediction("neutral", confidence=7.0), "from 0 to 1"),
    "a negative cost": (Prediction("neutral", confidence=0.9, cost=-1.0), "USD of at least 0"),
}


@pytest.mark.parametrize(("given", "sentence"), MALFORMED.values(), ids=list(MALFORMED))
@pytest.mark.parametrize("place", ["first", "last", "voter"])
def test_a_member_with_a_malformed_prediction_is_named_before_its_row_is_answered(
    place: str, given: Prediction, sentence: str
) -> None:
    def odd(text: str) -> Prediction:
        return given if number_of(text) == 3 else Prediction("neutral", confidence=0.1)

    bad, good = RuleClassifier(odd), RuleClassifier(always("neutral", confidence=0.2))
    ensemble: Classifier
    if place == "voter":
        ensemble = Vote({"good": good, "bad": bad})
    else:
        members = {"bad": bad, "good": good} if place == "first" else {"good": good, "bad": bad}
        ensemble = Cascade(members, [0.8])
    with pytest.raises(SentikitError, match=r"The member bad, text 3 \(from 0\): ") as caught:
        ensemble.predict(texts(6))
    assert sentence in caught.value.message
