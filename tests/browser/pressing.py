"""How tests press a button: by a double click, and then once more what it has sent."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from stepstream import create_app
from stepstream.bus.settings import Settings
from stepstream.web.routing import NeedsRoute
from tests.browser.demo import Demo
from tests.browser.looking import WIDE
from tests.support import until

_PAGES = "stepstream.web.pages."


def actions() -> dict[str, Any]:
    """Return what the pages can do, from the code: a pattern of the path by the name of its route."""
    return {
        str(route.name): route.path_regex
        for route in create_app(configured=Settings()).routes
        if isinstance(route, NeedsRoute) and route.methods == {"POST"} and route.endpoint.__module__.startswith(_PAGES)
    }


class Hand:
    """A person in haste at the pages of a demo store: each button is pressed twice, and what it sent is sent again."""

    def __init__(self, chromium: Any, demo: Demo, *, scripted: bool) -> None:
        self.demo = demo
        self.context = chromium.new_context(viewport=WIDE, java_script_enabled=scripted)
        self.page = self.context.new_page()
        self.pressed: set[str] = set()
        """The routes whose buttons were pressed."""
        self._sent: list[Any] = []
        self._known = actions()
        self.page.on("request", lambda request: self._sent.append(request) if request.method == "POST" else None)

    def press(
        self, path: str, button: str, *, within: str = "main", opened: str = "", fill: Mapping[str, str] | None = None,
        runs: int = 0,
    ) -> None:  # fmt: skip
        """Press a button of a page: it begins so many runs, and no more.

        `within` is what it is in, `opened` the <details> that is opened before, and `fill` has what is written into
        fields by their names.
        """
        before = self.all_runs()
        self.page.goto(self.demo.url + path)
        if opened:
            self.page.locator(f"{opened} > summary").click()
        place = self.page.locator(opened or within)
        for name, text in (fill or {}).items():
            place.locator(f"[name='{name}']:visible").fill(text)
        self._sent.clear()
        with self.page.expect_event("load"):
            place.get_by_role("button", name=button, exact=True).first.dblclick()
        told = f"{button} of {path}"
        [url] = {request.url for request in self._sent}
        [body] = {request.post_data for request in self._sent}
        again = self.context.request.post(
            url, data=body, headers={"content-type": "application/x-www-form-urlencoded"}, max_redirects=0
        )
        assert again.status in (200, 303), f"{told}, sent again: {again.status} {again.text()[:600]}"
        [name] = [name for name, pattern in self._known.items() if pattern.match(urlsplit(url).path)]
        self.pressed.add(name)
        if runs:
            until(lambda: len(self.all_runs() - before) >= runs, f"{told} begins {runs} runs")
        begun = self.all_runs() - before
        assert len(begun) == runs, f"{told}: {begun}"

    def all_runs(self) -> set[str]:
        """Return the ids of all runs there are."""
        return {one["id"] for one in self.demo.get("/v1/runs?limit=200") or []}
