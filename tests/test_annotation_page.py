"""The page for checking texts, in a real browser and over real HTTP."""

from __future__ import annotations

import csv
import json
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from browsing import browser, save_screenshot
from sentikit.plugins.checked_labels.annotation import Annotation
from sentikit.plugins.checked_labels.draws import Item
from sentikit.plugins.checked_labels.server import AnnotationServer

from sentikit.errors import InputError

LABELS = ("negative", "neutral", "positive")
SCRIPT = "<script>document.title = 'owned'</script><img src=x onerror=\"document.title='owned'\">"
TEXTS = ["I love it", SCRIPT, "Meh.", "Never again!\nThe soup was cold."] + [
    f"Text number {n}" for n in range(4, 24)
]


@contextmanager
def serving(output: Path, **changed: Any) -> Iterator[AnnotationServer]:
    items = [
        Item(row, text, inclusion=0.5, predicted="neutral", confidence=0.91)
        for row, text in enumerate(TEXTS)
    ]
    annotation = Annotation(items, output, LABELS, guidelines="Judge the writer.", **changed)
    with AnnotationServer(annotation) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def answers(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def request(
    server: AnnotationServer, method: str, path: str, headers: dict[str, str], body: Any = None
) -> tuple[int, dict[str, str], bytes]:
    connection = HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    given = {"Host": server.hosts[0], **headers}
    connection.request(method, path, None if body is None else json.dumps(body), given)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, dict(answer.getheaders()), content


class TestGuards:
    def test_the_token_is_exchanged_for_a_strict_cookie_and_leaves_the_address(
        self, tmp_path: Path
    ) -> None:
        with serving(tmp_path / "c.csv") as server:
            status, headers, _ = request(server, "GET", f"/?token={server.token}", {})
            assert (status, headers["Location"]) == (303, "/")
            assert "SameSite=Strict" in headers["Set-Cookie"]
            assert "HttpOnly" in headers["Set-Cookie"]
            cookie = {"Cookie": headers["Set-Cookie"].partition(";")[0]}
            status, headers, page = request(server, "GET", "/", cookie)
            assert status == 200
            assert server.token.encode() not in page
            policy = headers["Content-Security-Policy"]
            assert policy.startswith("default-src 'none'; script-src 'self'")
            assert "unsafe" not in policy
            assert headers["Referrer-Policy"] == "no-referrer"

    def test_without_the_token_nothing_is_shown(self, tmp_path: Path) -> None:
        with serving(tmp_path / "c.csv") as server:
            for path in ("/", "/?token=wrong", "/api/state", "/annotate.js"):
                status, _, content = request(server, "GET", path, {})
                assert status == 403
                assert b"love" not in content

    def test_a_foreign_host_name_is_refused_against_dns_rebinding(self, tmp_path: Path) -> None:
        with serving(tmp_path / "c.csv") as server:
            own = {"Cookie": f"{server.cookie}={server.token}"}
            for host in (f"evil.example:{server.server_port}", "127.0.0.1", "127.0.0.1:1"):
                assert request(server, "GET", "/api/state", own | {"Host": host})[0] == 421

    @pytest.mark.parametrize("origin", [None, "http://evil.example", "null"])
    def test_writes_from_other_origins_are_refused(
        self, tmp_path: Path, origin: str | None
    ) -> None:
        with serving(tmp_path / "c.csv") as server:
            own = {"Cookie": f"{server.cookie}={server.token}"}
            own |= {} if origin is None else {"Origin": origin}
            body = {"row": 0, "repeat": False, "label": "positive", "status": "checked"}
            assert request(server, "POST", "/api/answer", own, body)[0] == 403
            assert not (tmp_path / "c.csv").exists()

    def test_malformed_writes_are_refused_and_nothing_is_written(self, tmp_path: Path) -> None:
        with serving(tmp_path / "c.csv") as server:
            own = {
                "Cookie": f"{server.cookie}={server.token}",
                "Origin": f"http://{server.hosts[0]}",
            }
            good = {"row": 0, "repeat": False, "label": "positive", "status": "checked"}
            for changed in (
                {"label": "lovely"},
                {"row": 99},
                {"status": "decided"},
                {"row": "x"},
                {"label": None},
            ):
                assert request(server, "POST", "/api/answer", own, good | changed)[0] == 400
            assert request(server, "POST", "/api/answer", own, [1])[0] == 400
            assert not (tmp_path / "c.csv").exists()

    def test_a_port_in_use_is_reported_in_one_sentence(self, tmp_path: Path) -> None:
        with serving(tmp_path / "c.csv") as server, pytest.raises(InputError, match="is taken"):
            AnnotationServer(server.annotation, server.server_port)

    def test_the_server_listens_only_on_loopback(self, tmp_path: Path) -> None:
        with serving(tmp_path / "c.csv") as server:
            assert server.server_address[0] == "127.0.0.1"

    def test_files_of_answers_are_readable_only_by_their_owner(self, tmp_path: Path) -> None:
        with serving(tmp_path / "c.csv") as server:
            server.annotation.answer(0, False, "positive", "checked", "", False)
        assert stat.S_IMODE(os.stat(tmp_path / "c.csv").st_mode) == 0o600


@pytest.mark.slow
class TestBrowser:
    @pytest.mark.parametrize(("width", "dark"), [(1200, False), (390, True)])
    def test_texts_can_be_checked_with_the_keyboard_only(
        self, tmp_path: Path, width: int, dark: bool
    ) -> None:
        output = tmp_path / "checked.csv"
        with serving(output) as server, browser(tmp_path / "b", width, 800, dark) as page:
            page.get(server.address)
            press = _keys(page)
            _wait(page, "I love it")
            assert "token" not in page.current_url
            assert "neutral" not in page.find_element("id", "model").text
            save_screenshot(page, tmp_path / f"annotate-{width}.png")
            press("3")
            _wait(page, SCRIPT)
            press("1")
            _wait(page, "Meh.")
            press("u")
            _wait(page, SCRIPT)
            assert page.title == "Check texts"
            press("n")
            _wait(page, "Meh.")
            press("e")
            press("n2")
            press("\ue00c")  # Escape
            press("m")
            _wait(page, "The model says neutral (91 % sure).", "model")
            press("2")
            _wait(page, "Never again!\nThe soup was cold.")
            press("s")
            _wait(page, "Text number 4")
            press("g")
            assert page.find_element("id", "guide").is_displayed()
            scroll = "return document.documentElement.scrollWidth - innerWidth"
            assert page.execute_script(scroll) <= 0
            assert "4 of 25" in page.find_element("id", "progress").text
            errors = [e for e in page.get_log("browser") if e["level"] == "SEVERE"]
            assert errors == []
            loaded = [
                json.loads(entry["message"])["message"] for entry in page.get_log("performance")
            ]
            addresses = [
                m["params"]["request"]["url"]
                for m in loaded
                if m["method"] == "Network.requestWillBeSent"
            ]
            here = f"http://127.0.0.1:{server.server_port}/"
            assert all(a.startswith(here) for a in addresses if a.startswith("http"))
        checks = answers(output)
        assert [(a["row"], a["label"], a["status"]) for a in checks] == [
            ("0", "positive", "checked"),
            ("1", "negative", "checked"),
            ("1", "", "undone"),
            ("1", "", "not sure"),
            ("2", "neutral", "checked"),
            ("3", "", "skipped"),
        ]
        assert (checks[4]["note"], checks[4]["revealed"], checks[4]["inclusion"]) == (
            "n2",
            "1",
            "0.5",
        )

    def test_two_open_pages_continue_from_the_same_text(self, tmp_path: Path) -> None:
        output = tmp_path / "checked.csv"
        with serving(output) as server, browser(tmp_path / "b") as page:
            page.get(server.address)
            _wait(page, "I love it")
            page.switch_to.new_window("tab")
            page.get(server.address)
            _wait(page, "I love it")
            _keys(page)("1")
            _wait(page, SCRIPT)
            page.switch_to.window(page.window_handles[0])
            _keys(page)("3")  # answers the same text again: the later answer counts
            _wait(page, SCRIPT)
            state = server.annotation.state()
            assert state["done"] == 1
        assert [a["label"] for a in answers(output)] == ["negative", "positive"]

    def test_one_person_cannot_answer_in_two_servers_at_once(self, tmp_path: Path) -> None:
        output = tmp_path / "checked.csv"
        items = [Item(row, text) for row, text in enumerate(TEXTS)]
        first, second = (Annotation(items, output, LABELS, repeats=0) for _ in range(2))
        other = Annotation(items, output, LABELS, annotator="Ada", repeats=0)
        with first.session():
            first.answer(0, False, "positive", "checked", "", False)
            with pytest.raises(InputError, match="checked by you in another sentikit annotate"):
                second.session().__enter__()
            with other.session():
                assert other.state()["done"] == 0
        with second.session():
            assert second.state()["done"] == 1
        assert sorted(path.name for path in tmp_path.iterdir() if "lock" not in path.name) == [
            "checked.csv"
        ]

    def test_the_page_says_when_the_server_has_stopped(self, tmp_path: Path) -> None:
        with browser(tmp_path / "b") as page:
            with serving(tmp_path / "checked.csv") as server:
                page.get(server.address)
                _wait(page, "I love it")
            _keys(page)("1")
            _wait(page, "The server has stopped", "error", part=True)


def _keys(page: Any) -> Any:
    from selenium.webdriver.common.action_chains import ActionChains

    return lambda keys: ActionChains(page).send_keys(keys).perform()


def _wait(page: Any, text: str, element: str = "text", part: bool = False) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    script = f"return document.getElementById('{element}').textContent"
    WebDriverWait(page, 10).until(
        lambda p: text in p.execute_script(script) if part else p.execute_script(script) == text
    )
