"""A dashboard that listens, and a browser that looks at it: one of each for all tests of a file."""

import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from transvae_dashboards.live.server import open_dashboard

CHROMIUM = ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome")


@contextmanager
def serving(home, **options):
    server = open_dashboard(home, "127.0.0.1", 0, **options)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def dashboard(whole):
    with serving(whole.folder.parents[1], price=2.0) as server:
        yield server


@pytest.fixture(scope="module")
def browser():
    program = next((path for path in CHROMIUM if Path(path).exists()), None)
    if program is None:
        pytest.skip(f"no Chromium at {', '.join(CHROMIUM)}")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra `test`)")
    with playwright.sync_playwright() as started:
        # root, as in containers, may not use the sandbox
        opened = started.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


@pytest.fixture
def page(browser):
    """A page on which every error of a script and every refused request fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    shown, troubles = context.new_page(), []
    shown.on("console", lambda message: troubles.append(message.text) if message.type in ("error", "warning") else None)
    shown.on("pageerror", lambda error: troubles.append(str(error)))
    # a click may come while the page asks for news, which the browser then drops
    shown.on(
        "requestfailed", lambda one: None if one.failure == "net::ERR_ABORTED" and one.resource_type == "fetch"
        else troubles.append(one.url),
    )  # fmt: skip
    yield shown
    context.close()
    assert troubles == []
