"""`sentikit serve`: TEI's routes over a real classifier, on a real port."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner
from hub_server import Repository, files_of, serve
from served_classifiers import served
from tiny_classifiers import POLARITY, make_text_classifier

import sentikit
from sentikit.classifiers.plugin_classifier import MODEL_FORMAT
from sentikit.cli import sentikit as cli

pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")

SCORES = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "required": ["score", "label"],
        "properties": {"score": {"type": "number"}, "label": {"type": "string"}},
    },
}
INFO = {
    "type": "object",
    "required": [
        "model_id",
        "model_dtype",
        "served_model_name",
        "model_type",
        "max_concurrent_requests",
        "max_input_length",
        "max_batch_tokens",
        "max_client_batch_size",
        "auto_truncate",
        "tokenization_workers",
        "version",
    ],
    "properties": {
        "model_type": {
            "type": "object",
            "required": ["classifier"],
            "properties": {
                "classifier": {
                    "type": "object",
                    "required": ["id2label", "label2id"],
                    "properties": {
                        "id2label": {"additionalProperties": {"type": "string"}},
                        "label2id": {"additionalProperties": {"type": "integer", "minimum": 0}},
                    },
                }
            },
        }
    },
}
ERROR = {
    "type": "object",
    "required": ["error", "error_type"],
    "properties": {
        "error": {"type": "string"},
        "error_type": {
            "enum": ["Unhealthy", "Backend", "Overloaded", "Validation", "Tokenizer", "Empty"]
        },
    },
}


class Client:
    """Sends requests over one connection a call."""

    def __init__(self, port: int) -> None:
        self.port = port

    def send(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, named)
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def predict(self, inputs: Any, **more: Any) -> tuple[int, dict[str, str], Any]:
        body = json.dumps({"inputs": inputs, **more}).encode()
        status, headers, content = self.send(
            "POST", "/predict", body, content_type="application/json"
        )
        return status, headers, json.loads(content)


@pytest.fixture(scope="module")
def server(trained_run: Path) -> Iterator[Client]:
    with served(str(trained_run), "--most-texts", "100") as (port, _):
        yield Client(port)


class TestContract:
    def test_one_text_gets_one_list_of_scores_highest_first(
        self, server: Client, trained_run: Path
    ) -> None:
        status, headers, answer = server.predict("I love it")
        assert status == 200
        jsonschema.validate(answer, SCORES)
        expected = sentikit.load(trained_run).predict_proba(["I love it"])[0]
        known = dict(zip(sentikit.load(trained_run).labels, expected, strict=True))
        assert [row["score"] for row in answer] == sorted(known.values(), reverse=True)
        assert {row["label"]: row["score"] for row in answer} == pytest.approx(known, abs=1e-6)
        assert headers["x-cost-usd"] == "0.000000000"

    def test_a_batch_gets_a_list_for_each_text_in_order(self, server: Client) -> None:
        texts = ["I love it", "not worth a cent", "a table"]
        status, _, answer = server.predict([[text] for text in texts])
        assert status == 200
        for text, scores in zip(texts, answer, strict=True):
            jsonschema.validate(scores, SCORES)
            single = {row["label"]: row["score"] for row in server.predict(text)[2]}
            assert {row["label"]: row["score"] for row in scores} == pytest.approx(single, abs=1e-5)

    def test_a_list_of_one_text_in_a_batch_is_a_single_text(self, server: Client) -> None:
        assert server.predict(["I love it"])[::2] == server.predict("I love it")[::2]

    def test_info_describes_the_classifier(self, server: Client, trained_run: Path) -> None:
        status, _, content = server.send("GET", "/info")
        info = json.loads(content)
        assert status == 200
        jsonschema.validate(info, INFO)
        assert info["model_id"] == str(trained_run)
        assert info["model_type"]["classifier"]["label2id"] == {
            "negative": 0,
            "neutral": 1,
            "positive": 2,
        }

    def test_health_answers_200_with_an_empty_body(self, server: Client) -> None:
        assert server.send("GET", "/health")[::2] == (200, b"")

    def test_metrics_count_requests_and_never_hold_texts(self, server: Client) -> None:
        server.predict("a secret review")
        content = server.send("GET", "/metrics")[2].decode()
        assert re.search(r'sentikit_requests_total\{path="/predict",status="200"\} \d', content)
        assert "sentikit_batch_texts_bucket" in content
        assert "secret" not in content

    def test_the_docs_page_loads_nothing_from_other_origins(self, server: Client) -> None:
        status, headers, content = server.send("GET", "/docs")
        assert status == 200
        assert "default-src 'none'" in headers["content-security-policy"]
        assert b"src=" not in content
        assert b"/predict" in content

    def test_no_cors_header_allows_another_origin(self, server: Client) -> None:
        _, headers, _ = server.send("GET", "/info", origin="http://example.com")
        assert not [name for name in headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"", 422, "Invalid JSON"),
        (b"{", 422, "Invalid JSON"),
        (b"[" * 100_000, 422, "recursion limit"),
        (b'{"inputs": NaN}', 422, "inputs"),
        (b'{"inputs": null}', 422, "inputs"),
        (b'{"inputs": 1}', 422, "inputs"),
        (b'{"inputs": ""}', 400, "Text 0 (from 0) is empty."),
        (b'{"inputs": []}', 400, "The batch is empty."),
        (b'{"inputs": [[]]}', 422, "inputs"),
        (b'{"inputs": ["a", "pair"]}', 422, "inputs"),
        (b'{"inputs": [["a", "pair"]]}', 422, "inputs"),
        (b'{"inputs": "\\ud800"}', 422, ""),
        (b'{"inputs": "caf\xe9"}', 422, ""),
        ('{"inputs": "I love it"}'.encode("utf-16"), 422, "Invalid JSON"),
        (b'{"inputs": "x", "raw_scores": true}', 422, "raw_scores"),
        (json.dumps({"inputs": [["x"]] * 101}).encode(), 413, "at most 100"),
        (json.dumps({"inputs": [["x"]] * 10_000}).encode(), 413, "at most 100"),
        (json.dumps({"inputs": "x" * 10_000_000}).encode(), 413, "2,000,000 bytes"),
    ],
)
def test_a_wrong_body_is_refused_in_one_sentence(
    server: Client, body: bytes, status: int, message: str
) -> None:
    found, _, content = server.send("POST", "/predict", body, content_type="application/json")
    assert found == status
    error = json.loads(content)
    jsonschema.validate(error, ERROR)
    assert message in error["error"]
    assert (error["error_type"] == "Empty") == (status == 400)


def test_a_form_from_another_site_is_refused(server: Client) -> None:
    assert server.send("POST", "/predict", b"{}", content_type="text/plain")[0] == 415


def test_a_foreign_host_name_is_refused_by_the_server(server: Client) -> None:
    assert server.send("GET", "/info", host="rebound.example:80")[0] == 421


def test_unknown_paths_and_methods_are_refused(server: Client) -> None:
    for method, path, status in (("GET", "/nothing", 404), ("GET", "/predict", 405)):
        found, _, content = server.send(method, path)
        assert found == status
        jsonschema.validate(json.loads(content), ERROR)


def test_concurrent_clients_get_their_own_answers(server: Client) -> None:
    texts = [f"a review number {number}" for number in range(64)]
    alone = {text: server.predict(text)[2] for text in texts[:4]}
    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(server.predict, texts))
    assert {answer[0] for answer in answers} == {200}
    for text, expected in alone.items():
        found = {row["label"]: row["score"] for row in answers[texts.index(text)][2]}
        wanted = {row["label"]: row["score"] for row in expected}
        assert found == pytest.approx(wanted, abs=1e-5)


def test_a_client_that_disconnects_does_no_harm(server: Client) -> None:
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(
                b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Content-Length: 100\r\n\r\n{"
            )
    assert server.predict("I love it")[0] == 200


@pytest.fixture(scope="module")
def locked(trained_run: Path) -> Iterator[Client]:
    with served(str(trained_run), SENTIKIT_SERVE_KEY="open-sesame") as (port, _):
        yield Client(port)


class TestKey:
    @pytest.mark.parametrize("path", ["/info", "/metrics", "/docs", "/openapi.json", "/"])
    def test_everything_but_health_needs_the_key(self, locked: Client, path: str) -> None:
        status, headers, content = locked.send("GET", path)
        assert status == 401
        assert headers["www-authenticate"] == "Bearer"
        assert b"sesame" not in content
        wrong = locked.send("GET", path, authorization="Bearer open-sesamf")
        assert wrong[0] == 401
        assert locked.send("GET", "/health")[0] == 200

    def test_requests_with_the_key_are_answered(self, locked: Client) -> None:
        assert locked.send("GET", "/info", authorization="Bearer open-sesame")[0] == 200

    def test_listening_on_another_address_needs_a_key(self, trained_run: Path) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "sentikit", "serve", str(trained_run), "--host", "0.0.0.0"],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 2
        assert "Set SENTIKIT_SERVE_KEY" in done.stderr


def test_a_classifier_that_does_not_exist_is_reported_before_anything_is_imported() -> None:
    code = (
        "import sys; from sentikit.cli import main\n"
        "sys.argv = ['sentikit', 'serve', 'nothing', '--port', '0']\n"
        "try: main()\n"
        "finally: print(sorted({'torch', 'fastapi', 'uvicorn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert "nothing" in done.stderr
    assert done.stdout == "[]\n"


def test_a_port_in_use_is_reported_before_anything_is_loaded(server: Client) -> None:
    Path("unloadable").mkdir()
    Path("unloadable/config.json").write_text(json.dumps({"format": MODEL_FORMAT}))
    done = subprocess.run(
        [sys.executable, "-m", "sentikit", "serve", "unloadable", "--port", str(server.port)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "address already in use" in done.stderr


@pytest.mark.slow
def test_requests_in_progress_are_answered_when_the_server_stops(trained_run: Path) -> None:
    with served(str(trained_run)) as (port, process), ThreadPoolExecutor(1) as pool:
        client = Client(port)
        client.predict("warm up")
        under_way = pool.submit(client.predict, [["a long review " * 30]] * 400)
        while not client.send("GET", "/metrics")[2].decode().count("batch_texts_count 2.0"):
            pass
        process.send_signal(signal.SIGTERM)
        assert under_way.result()[0] == 200
        assert process.wait(30) == 0


@pytest.mark.slow
def test_the_server_writes_no_text_to_output_errors_or_files(trained_run: Path) -> None:
    with served(str(trained_run)) as (port, process):
        client = Client(port)
        assert client.predict("a confidential sentence")[0] == 200
        refused = client.send(
            "POST", "/predict", b'{"inputs": {"confidential": 1}}', content_type="application/json"
        )
        assert refused[0] == 422
        process.terminate()
        assert process.stderr is not None
        assert "confidential" not in process.stderr.read()
    assert b"confidential" not in refused[2]
    assert all(b"confidential" not in path.read_bytes() for path in Path("runs").glob("*"))


def test_more_waiting_texts_than_allowed_get_429(trained_run: Path) -> None:
    with served(str(trained_run), "--most-waiting", "1") as (port, _):
        client = Client(port)
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(client.predict, [[["a long review " * 30]] * 100] * 16))
        refused = [headers for status, headers, _ in answers if status == 429]
        assert refused
        assert all(headers["retry-after"] == "1" for headers in refused)
        assert {status for status, _, _ in answers} == {200, 429}


LABEL_MAP = {"LABEL_0": "positive", "LABEL_1": "neutral", "LABEL_2": "negative"}


def best(answer: list[dict[str, Any]]) -> str:
    return str(answer[0]["label"])


def test_a_label_map_names_the_classes_of_a_transformers_model(tmp_path: Path) -> None:
    folder = make_text_classifier(tmp_path / "model", num_labels=3)
    pairs = ",".join(f"{label}={meant}" for label, meant in LABEL_MAP.items())
    with served(str(folder), "--label-map", pairs) as (port, _):
        client = Client(port)
        info = json.loads(client.send("GET", "/info")[2])
        answer = client.predict("I love it")[2]
    assert set(info["model_type"]["classifier"]["label2id"]) == set(LABEL_MAP.values())
    (expected,) = sentikit.load(folder, label_map=LABEL_MAP).predict(["I love it"])
    assert best(answer) == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--label-map", "LABEL_0"], "--label-map 'LABEL_0' is not of the form LABEL=CLASS"),
        (["--label-map", "A=a,A=b"], "names the label 'A' twice"),
        (["--revision", "v2"], "Leave out the revision"),
    ],
)
def test_a_wrong_label_map_or_revision_is_refused_in_one_sentence(
    trained_run: Path, words: list[str], message: str
) -> None:
    done = CliRunner().invoke(cli, ["serve", str(trained_run), *words, "--port", "0"])
    assert done.exit_code == 2
    assert message in done.stderr


@pytest.mark.slow
def test_a_revision_of_a_model_on_the_hub_is_served(tmp_path: Path) -> None:
    main = make_text_classifier(tmp_path / "main", POLARITY)
    other = make_text_classifier(tmp_path / "v2", {0: "anger", 1: "joy"})
    repository = Repository({"main": files_of(main), "v2": files_of(other)})
    named = ["jane/mood", "--revision", "v2"]
    with serve({"jane/mood": repository}) as hub:
        place = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "cache")}
        with served(*named, **place) as (port, _):
            info = json.loads(Client(port).send("GET", "/info")[2])
    assert list(info["model_type"]["classifier"]["label2id"]) == ["anger", "joy"]


class TestImage:
    """What the Dockerfile says of the container: its command, its user, its health check."""

    def instruction(self, name: str) -> str:
        text = Path(__file__).resolve().parents[1].joinpath("Dockerfile").read_text()
        joined = text.replace("\\\n", " ")
        return [line.partition(" ")[2] for line in joined.splitlines() if line.startswith(name)][-1]

    def test_the_images_command_needs_a_key_and_its_health_check_passes(
        self, trained_run: Path, locked: Client
    ) -> None:
        words = [*json.loads(self.instruction("ENTRYPOINT")), *json.loads(self.instruction("CMD "))]
        assert words[:3] == ["sentikit", "serve", "/model"]
        words[2] = str(trained_run)
        refused = CliRunner().invoke(cli, words[1:])
        assert refused.exit_code == 2
        assert "Set SENTIKIT_SERVE_KEY" in refused.stderr
        check = json.loads(self.instruction("HEALTHCHECK").partition("CMD ")[2])
        assert check[0] == "python"
        for port, status in ((locked.port, 0), (1, 1)):
            code = check[2].replace(":8080/", f":{port}/")
            done = subprocess.run([sys.executable, "-c", code], capture_output=True)
            assert done.returncode == status

    def test_the_image_runs_as_an_unprivileged_user_without_the_hub(self) -> None:
        assert int(self.instruction("USER")) >= 1000
        assert "HF_HUB_OFFLINE=1" in self.instruction("ENV")

    def test_the_images_build_context_contains_exactly_the_copied_files(self) -> None:
        root = Path(__file__).resolve().parents[1]
        copied = {
            word
            for line in (root / "Dockerfile").read_text().splitlines()
            if line.startswith("COPY ") and "--from" not in line
            for word in line.split()[1:-1]
        }
        allowed = (root / ".dockerignore").read_text().splitlines()
        assert {f"!{name}" for name in copied} == {line for line in allowed if line[0] == "!"}
        assert all((root / name).exists() for name in copied)
