"""How tests look at pages: in light and dark, on a wide screen and on a phone, with axe-core beside them."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]
SHOTS = os.environ.get("SCREENSHOTS")
"""A folder: each page that is looked at is kept there as a picture."""
WIDE, PHONE = {"width": 1400, "height": 900}, {"width": 390, "height": 844}
LOOKS = {
    "light": {"color_scheme": "light", "viewport": {"width": 1200, "height": 800}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1200, "height": 800}},
    "phone": {"color_scheme": "light", "viewport": PHONE},
}
_SERIOUS = {"moderate", "serious", "critical"}
_RUN = """options => axe.run(document, options).then(found => found.violations.flatMap(
    one => one.nodes.map(node => [one.impact, `${one.id}: ${node.html.slice(0, 120)} ${node.any.map(a => a.message)}`])))"""


def axe() -> str:
    """Return axe-core, as a wheel of PyPI has it (pyproject.toml, browser)."""
    found = pytest.importorskip("axe_playwright_python.base", reason="NOT RUN: axe-core is not installed: make browser")
    return found.AXE_SCRIPT


def serious(page: Any, *rules: str) -> list[str]:
    """Return the findings of axe-core that keep somebody from reading: of all rules, or of some.

    It comes by the browser's back door: no page may load it.
    """
    if not page.evaluate("'axe' in window"):
        page.evaluate(axe())
    options = {"resultTypes": ["violations"], **({"runOnly": rules} if rules else {})}
    return [words for impact, words in page.evaluate(_RUN, options) if impact in _SERIOUS]


def wider_than_the_screen(page: Any) -> int:
    """Return by how many px a page is wider than the screen."""
    return page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


OF_COLOUR = ("color-contrast", "link-in-text-block")
"""What may be wrong in the dark where nothing is in the light."""


def seen(page: Any, name: str) -> None:
    """Look at an open page, light and dark, wide and on a phone: nothing is unreadable, nothing wider than the screen."""
    findings = [f"no id of its own, a refresh may hand its focus to another: {one}" for one in nameless(page)]
    for scheme, rules in ("light", ()), ("dark", OF_COLOUR):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size(WIDE)
        findings += [f"{scheme}: {one}" for one in serious(page, *rules)]
        keep(page, f"{name}-{scheme}")
        page.set_viewport_size(PHONE)
        wide = wider_than_the_screen(page)
        findings += [f"{scheme}: {wide} px wider than a phone"] if wide > 0 else []
        keep(page, f"{name}-phone-{scheme}")
    assert not findings, f"{name}: {findings}"


def nameless(page: Any) -> list[str]:
    """Return rows, and what can be opened, that have no id or share one: a refresh knows each again by its id."""
    return page.evaluate("""() => [...document.querySelectorAll("[data-row], tr:has(button), details")].filter(
        one => !one.id || document.querySelectorAll(`[id="${CSS.escape(one.id)}"]`).length > 1
    ).map(one => one.outerHTML.slice(0, 120))""")


def keep(page: Any, name: str) -> None:
    """Keep a picture of a page, where somebody wants them (SCREENSHOTS)."""
    if SHOTS:
        Path(SHOTS).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=f"{SHOTS}/{name}.png", full_page=True)
