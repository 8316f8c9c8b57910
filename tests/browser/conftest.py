"""Fixtures of the browser tests: one Chromium, and one demo store, for all of them."""

from collections.abc import Generator
from typing import Any

import pytest

from tests.browser.demo import Demo
from tests.browser.looking import ARGUMENTS, CHROMIUM


@pytest.fixture(scope="session")
def chromium() -> Generator[Any]:
    playwright_api = pytest.importorskip(
        "playwright.sync_api", reason="NOT RUN: the browser tests need playwright: make browser"
    )
    if CHROMIUM is None:
        pytest.skip("NOT RUN: no Chromium on this machine (apt install chromium)")
    with playwright_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield opened
        opened.close()


@pytest.fixture
def browser(chromium: Any) -> Generator[Any]:
    """Its pages are closed at the end of a test: an open one looks again each second."""
    yield chromium
    for context in chromium.contexts:
        context.close()


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Generator[Demo]:
    """A store with runs in every state (tests/browser/demo.py). What a test does to it, others see."""
    made = Demo(tmp_path_factory.mktemp("demo"))
    try:
        made.begin()
        made.fill()
        yield made
    finally:
        made.close()
