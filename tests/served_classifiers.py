"""``sentikit serve`` in a process of its own, on a free port."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def served(*arguments: str, **environment: str) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """Run `sentikit serve` and yield its port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "sentikit", "serve", *arguments, "--port", "0", "--threads", "1"],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )
    assert process.stderr is not None
    try:
        errors = ""
        for line in process.stderr:
            errors += line
            if found := re.search(r"http://127\.0\.0\.1:(\d+) serves", line):
                yield int(found[1]), process
                break
        else:
            raise AssertionError(errors)
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
