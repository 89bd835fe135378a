"""The commands of docs/label-a-pile.md on real data, with MiniLM trained on an LLM's labels.

    python benchmarks/teaching_loop.py FOLDER

The pile is the study's 6,530 test texts. The LLM is GPT-4o mini: a local chat server replays the
study's recorded answers, at OpenAI's prices. Gold labels replace the people who check 300 texts.
Target and draw are fixed here, before anything is labelled, and there is one look.
Commands and their output are printed.
"""

from __future__ import annotations

import csv
import json
import os
import shlex
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

#: The study's files: a folder named by SENTIKIT_STUDY_DATA, or ./data.
RECORDED = Path(os.environ.get("SENTIKIT_STUDY_DATA", "data")) / "recorded"
#: The certificate's target, and the seed of the texts that are checked for it.
ACCURACY, SEED = 0.75, 2
RECIPE = """kind: prompt
dataset: {{name: demo}}
llm:
  backend: openai
  model: gpt-4o-mini
  base_url: http://127.0.0.1:{port}/v1
  guarantee: json_schema
  probabilities: false
  prices: {{prompt: 0.15, completion: 0.6}}
"""
CASCADE = """kind: cascade
cascade: {members: [runs/student, ./llm.yaml], thresholds: [0.8]}
"""
STEPS = (
    "sample reviews.csv --size 2000 --output sample.csv",
    "predict llm.yaml sample.csv --output llm.jsonl --max-cost 1",
    "train --recipe minilm --output runs/student --set training.epochs=2"
    " --set 'dataset={name: run, path: llm.jsonl, validation_holdout: 10%}'",
    f"label reviews.csv --with cascade.yaml --checked checked.csv --accuracy {ACCURACY}"
    " --output labelled.csv --review-queue queue.csv --max-cost 2",
    "estimate labelled.csv --checked checked.csv --report shares.html",
)


def server(answers: dict[str, str]) -> ThreadingHTTPServer:
    """Return a chat server that replays the recorded answer to each review."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.give({"object": "list", "data": [{"id": "gpt-4o-mini", "object": "model"}]})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            prompt = body["messages"][-1]["content"]
            text = prompt.rpartition("Review: ")[2].rpartition("\nClassification:")[0]
            content = json.dumps({"label": answers.get(text, "neutral")})
            message = {"role": "assistant", "content": content}
            tokens = len(json.dumps(body["messages"])) // 4
            self.give(
                {
                    "id": "chatcmpl-0",
                    "object": "chat.completion",
                    "created": 0,
                    "model": "gpt-4o-mini",
                    "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                    "usage": {
                        "prompt_tokens": tokens,
                        "completion_tokens": 5,
                        "total_tokens": tokens + 5,
                    },
                }
            )

        def give(self, value: object) -> None:
            content = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the parent's name
            """Log nothing."""

    return ThreadingHTTPServer(("127.0.0.1", 0), Handler)


def write_table(path: Path, columns: list[str], rows: list[list[str]]) -> None:
    """Write a CSV."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        writer.writerows(rows)


def main() -> None:
    """Run the commands, one after another."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    with (RECORDED / "B3-G4OM.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    write_table(folder / "reviews.csv", ["review"], [[row["review"]] for row in rows])
    replay = server({row["review"]: row["prediction"] for row in rows})
    threading.Thread(target=replay.serve_forever, daemon=True).start()
    (folder / "llm.yaml").write_text(RECIPE.format(port=replay.server_port))
    (folder / "cascade.yaml").write_text(CASCADE)
    check(folder, [row["classification"] for row in rows])
    for step in STEPS:
        print(f"$ sentikit {step}", flush=True)
        words = [sys.executable, "-m", "sentikit", *shlex.split(step)]
        own = os.environ | {"OPENAI_API_KEY": "none", "COLUMNS": "100"}
        done = subprocess.run(
            words, cwd=folder, env=own, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        print(done.stdout, flush=True)
        if done.returncode:
            sys.exit(done.returncode)
    with (folder / "labelled.csv").open(encoding="utf-8", newline="") as stream:
        labelled = list(csv.DictReader(stream))
    right = [
        one["predicted_label"] == row["classification"]
        for one, row in zip(labelled, rows, strict=True)
    ]
    accepted = [ok for ok, one in zip(right, labelled, strict=True) if one["status"] == "certified"]
    print(f"In truth {sum(right) / len(right):.1%} of all labels are right.")
    if accepted:
        print(f"Of the {len(accepted):,} certified ones {sum(accepted) / len(accepted):.1%} are.")


def check(folder: Path, gold: list[str]) -> None:
    """Draw 300 texts as `annotate` does, and give each its gold label."""
    from sentikit.plugins.checked_labels.annotation import Annotation
    from sentikit.plugins.checked_labels.draws import DrawOptions, drawn_items

    from sentikit.extension import InputFile

    output = folder / "checked.csv"
    drawn = drawn_items(InputFile(str(folder / "reviews.csv")), output, DrawOptions(300, SEED))
    labels = ("negative", "neutral", "positive")
    people = Annotation(drawn.items, output, labels, "gold", repeats=0, record=drawn.record)
    for item in drawn.items:
        people.answer(item.row, False, gold[item.row], "checked", "", False)


if __name__ == "__main__":
    main()
