"""Take the pictures of the page that the documentation shows, of the demo store: python -m docs.make_pictures.

It needs what `make browser` installs. Each picture is of a state that was made really (tests/browser/demo.py); the
pictures change with every run of this, for they show ids and moments, so nobody compares them.
"""

import tempfile
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

from tests.browser.demo import Demo
from tests.browser.looking import ARGUMENTS, CHROMIUM

DOCS = Path(__file__).parent
COLOURS = 128
"""A page has few colours: so a picture of it is a few dozen KB."""
PICTURES: dict[str, tuple[str, str, int, int]] = {
    "run": ("flaky", "light", 1_240, 900),
    "pictures/no-worker": ("no-worker", "light", 1_240, 270),
    "pictures/dead-worker": ("dead", "light", 1_240, 260),
    "pictures/workers": ("/workers", "light", 1_240, 620),
    "pictures/limit-full": ("limit", "light", 1_240, 300),
    "pictures/poison-run": ("poison", "light", 1_240, 420),
    "pictures/overview": ("/", "light", 1_240, 760),
    "pictures/wait": ("customs", "light", 1_240, 760),
}
"""Each picture: its page, or the word for the run whose page it is; in which scheme, how wide and how high."""


def main() -> None:
    """Make the store, and take all pictures."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        demo = Demo(Path(folder))
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        try:
            demo.begin()
            demo.fill()
            for name, (word, scheme, width, height) in PICTURES.items():
                path = word if word.startswith("/") else f"/runs/{_run(demo, word)}"
                _take(browser, demo.url + path, DOCS / f"{name}.png", scheme, width, height)
        finally:
            browser.close()
            demo.close()


def _run(demo: Demo, word: str) -> str:
    return demo.given_up() if word == "poison" else demo.runs[word]


def _take(browser: Any, url: str, file: Path, scheme: str, width: int, height: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    page = context.new_page()
    page.goto(url)
    page.wait_for_function("document.documentElement.classList.contains('js')")
    file.parent.mkdir(exist_ok=True)
    page.screenshot(path=str(file))
    context.close()
    with Image.open(file) as picture:
        picture.convert("RGB").quantize(COLOURS).save(file, optimize=True)


if __name__ == "__main__":
    main()
