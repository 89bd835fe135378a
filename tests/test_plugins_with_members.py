"""A plugin's classifier whose members include an LLM: its money, its journal and its batches."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from llm_fixtures import serving
from plugin_writing import SitePackages
from predict_commands import labelled, predict, recipe_for, write_file
from prompt_commands import write_recipe

import sentikit as toolkit
from sentikit import SentikitError
from sentikit.cli import sentikit
from sentikit.extension import Limits, RequestSession

PLUGIN = '''
from functools import cached_property

import sentikit
from sentikit import Example, Prediction, hookimpl
from sentikit.extension import PluginClassifier


@hookimpl
def register_classifiers(register):
    for kind in (SecondOpinion, Forgetful, Nested, Trained, Plain, Payer, Confused):
        register(kind.__name__.lower(), kind)


class SecondOpinion(PluginClassifier):
    """Labels what mentions love itself, and asks an LLM about the rest."""

    @cached_property
    def members(self):
        return {"llm": sentikit.load("own.yaml")}

    def ask(self, example, session):
        return self.members["llm"].classify([example], session)

    def classify(self, examples, session=None):
        for example in examples:
            text = example.text if isinstance(example, Example) else example
            if "love" in text:
                yield Prediction("positive", cost=0.0)
            else:
                yield from self.ask(example, session)


class Forgetful(SecondOpinion):
    def ask(self, example, session):
        return self.members["llm"].classify([example])


class Nested(PluginClassifier):
    """Asks another plugin's classifier, without the job's session."""

    @cached_property
    def members(self):
        return {"other": sentikit.load("forgetful")}

    def classify(self, examples, session=None):
        for example in examples:
            yield from self.members["other"].classify([example])


class Trained(SecondOpinion):
    def fit(self, examples, validation, folder):
        (folder / "empty.txt").write_text("")

    def load(self, folder):
        (folder / "empty.txt").read_text()


class Plain(PluginClassifier):
    def fit(self, examples, validation, folder):
        (folder / "empty.txt").write_text("")

    def load(self, folder):
        (folder / "empty.txt").read_text()

    def classify(self, examples, session=None):
        for _ in examples:
            yield Prediction("positive")


class Payer(PluginClassifier):
    asks_llm = True

    def classify(self, examples, session=None):
        for _ in examples:
            yield Prediction("neutral", cost=0.01)


class Confused(PluginClassifier):
    members = ["own.yaml"]

    def classify(self, examples, session=None):
        yield from ()
'''
ROWS = [f"I {('love', 'hate', 'read')[n % 3]} number {n}" for n in range(30)]
KINDS = ("secondopinion", "forgetful", "nested")


@pytest.fixture(autouse=True)
def plugin(site: SitePackages) -> SitePackages:
    site.add_plugin("opinions", PLUGIN)
    write_file("in.csv", ROWS)
    return site


@pytest.mark.parametrize("name", KINDS)
def test_the_estimate_counts_the_requests_of_a_member_and_sends_none(name: str) -> None:
    with serving() as s:
        recipe_for(s.url)
        done = predict(name, "in.csv", "--estimate")
        assert done.exit_code == 0, done.output
        assert s.server.calls == 0
    assert "Requests           20 " in done.stdout


@pytest.mark.parametrize("name", KINDS)
def test_a_budget_stops_a_plugin_and_its_answers_are_kept_for_the_resumed_job(name: str) -> None:
    run = [name, "in.csv", "--output", "out.csv"]
    with serving() as s:
        recipe_for(s.url)
        stopped = predict(*run, "--max-cost", "0.0012")
        assert stopped.exit_code == 1, stopped.output
        assert "Resume with --resume and a higher --max-cost" in stopped.stderr
        assert "about 20 requests for about $" in stopped.stderr
        done = predict(*run, "--resume")
        assert done.exit_code == 0, done.output
        asked = [body["messages"][-1]["content"] for body in s.server.bodies]
        about = [one for one in asked if "number" in one]
    assert len(about) == len(set(about)) == 20
    rows = labelled("out.csv")
    assert [row["predicted_label"] for row in rows] == ["positive", "negative", "neutral"] * 10
    assert all((float(row["cost"]) > 0) != ("love" in row["text"]) for row in rows)


def test_a_finished_call_leaves_the_budget_of_a_simultaneous_one_in_force() -> None:
    with serving() as s, RequestSession("two calls", Path("a.sqlite"), Limits(max_cost=0)) as job:
        recipe_for(s.url)
        classifier = toolkit.load("forgetful")
        first = classifier.classify(["I love it"], job)
        second = classifier.classify(["I love it", "I hate it"], job)
        assert [next(one).label for one in (first, second)] == ["positive"] * 2
        assert list(first) == []
        with pytest.raises(SentikitError, match="Nothing was sent"):
            list(second)
        assert not any("hate" in str(body) for body in s.server.bodies)


def test_the_requests_of_a_member_go_through_the_batch_service() -> None:
    with serving() as s:
        recipe_for(s.url)
        done = predict("secondopinion", "in.csv", "--output", "out.csv", "--batch")
        assert done.exit_code == 0, done.output
        assert len(s.server.batches.bodies) == 20
        calls = s.server.calls
    assert calls <= 2  # These find out what the server supports.
    assert [row["predicted_label"] for row in labelled("out.csv")][:3] == [
        *("positive", "negative", "neutral")
    ]


def test_only_failed_rows_of_a_member_are_queried_again() -> None:
    run = ["secondopinion", "in.csv", "--output", "out.csv"]
    with serving(fault_words={"number 4": "400:No."}) as s:
        recipe_for(s.url)
        failed = predict(*run)
        assert failed.exit_code == 1
        assert "1 row has failed" in failed.stderr
        s.server.behaviour = type(s.server.behaviour)()
        before = s.server.calls
        assert predict(*run, "--resume").exit_code == 0
        assert s.server.calls == before + 1


@pytest.mark.slow
def test_a_killed_job_of_a_plugin_resumes_without_paying_twice(plugin: SitePackages) -> None:
    run = ["secondopinion", "in.csv", "--output", "out.csv"]
    with serving(seconds=0.1) as s:
        recipe_for(s.url)
        path = os.pathsep.join([str(plugin.folder), os.environ.get("PYTHONPATH", "")])
        process = subprocess.Popen(
            [sys.executable, "-m", "sentikit", "predict", *run],
            env=os.environ | {"PYTHONPATH": path},
        )
        while s.server.calls < 10 and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        while s.server.in_flight:
            time.sleep(0.01)
        done = predict(*run, "--resume")
        assert done.exit_code == 0, done.output
        asked = [body["messages"][-1]["content"] for body in s.server.bodies]
        about = [one for one in asked if "number" in one]
        assert len(about) - len(set(about)) <= 1  # one was in flight
        assert predict(*run[:-1], "whole.csv").exit_code == 0
    assert Path("out.csv").read_bytes() == Path("whole.csv").read_bytes()


def test_a_plugin_that_trains_itself_cannot_have_an_llm_among_its_members() -> None:
    Path("train.yaml").write_text(
        "dataset: {name: files, train: test.csv}\nclassifier: {name: trained}\n"
    )
    with serving() as s:
        write_recipe(s.url, ROWS)
        words = ["train", "--recipe", "train.yaml", "--output", "runs/trained"]
        refused = CliRunner().invoke(sentikit, words)
        assert s.server.calls == 0
    assert refused.exit_code == 2
    assert "an LLM among its members, which training cannot pay for" in refused.stderr
    assert not Path("runs/trained").exists()


def test_a_plugin_that_trains_itself_may_give_no_probabilities() -> None:
    lines = [f"text {number},{('negative', 'positive')[number % 2]}" for number in range(8)]
    Path("data.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    Path("train.yaml").write_text(
        "dataset: {name: files, train: data.csv, test: data.csv}\nclassifier: {name: plain}\n"
    )
    words = ["train", "--recipe", "train.yaml", "--output", "runs/plain"]
    trained = CliRunner().invoke(sentikit, words)
    assert trained.exit_code == 0, trained.output
    row = json.loads(Path("runs/plain/predictions.jsonl").read_text().splitlines()[0])
    assert row["label"] == "positive"
    assert row["probabilities"] is None


def test_a_classifier_that_pays_by_itself_is_refused_a_budget_and_has_a_cost_column() -> None:
    refused = predict("payer", "in.csv", "--output", "out.csv", "--max-cost", "1")
    assert refused.exit_code == 2
    assert "pays for answers outside the job, which budgets and batches" in refused.stderr
    assert not Path("out.csv").exists()
    done = predict("payer", "in.csv", "--output", "out.csv")
    assert done.exit_code == 0, done.output
    assert labelled("out.csv")[0]["cost"] == "0.010000000"


def test_members_that_are_no_classifiers_are_named() -> None:
    with pytest.raises(SentikitError, match="'confused' of plugin 'opinions': members must map"):
        toolkit.load("confused")
