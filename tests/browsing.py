"""A real headless Chromium for tests of pages."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
)


def needed_browser() -> tuple[str, str]:
    """Return the paths of Chromium and its driver; skip the test without them."""
    pytest.importorskip("selenium", reason="selenium is not installed (pip install selenium)")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("no Chromium is installed (apt-get install chromium chromium-driver)")
    return chromium, driver


@contextlib.contextmanager
def browser(
    folder: Path, width: int = 1200, height: int = 900, dark: bool = False
) -> Iterator[Any]:
    """Start a browser with a profile of its own in `folder`, and stop it.

    Args:
        folder: for the profile.
        width: of the page, as on a screen of that width.
        height: of the page.
        dark: whether the system asks for dark pages.
    """
    chromium, driver = needed_browser()
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = chromium
    for flag in (*_FLAGS, f"--user-data-dir={folder}", f"--window-size={width},{height}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = webdriver.Chrome(options=options, service=Service(driver))
    try:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        started.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        started.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        yield started
    finally:
        started.quit()


def save_screenshot(started: Any, path: Path) -> None:
    """Save a picture of the whole page, beyond what the window shows."""
    import base64

    size = started.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
    clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
    taken = started.execute_cdp_cmd(
        "Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip}
    )
    path.write_bytes(base64.b64decode(taken["data"]))
