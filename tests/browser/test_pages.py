"""The pages in Chromium: what a person sees, in light and dark, on a wide screen and on a phone."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Coroutine, Generator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from plushify.pictures import photo
from plushify.studio import Studio

from stepstream.consumers.testing.scratch import scratch
from tests.browser.looking import LOOKS, wider_than_the_screen
from tests.patience import PATIENT_S
from tests.support import free_port, until

pytestmark = pytest.mark.browser


class Site:
    """`bus dev` on a port and folder of its own."""

    def __init__(self, folder: Path, *apps: str) -> None:
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        command = [sys.executable, "-m", "stepstream", "dev", *apps, "--port", str(port), "--folder", str(folder)]
        environ = {name: value for name, value in os.environ.items() if name != "BUS_REDIS_URL"}
        self.process = subprocess.Popen(command, env=environ, stderr=subprocess.DEVNULL)
        self.before: set[str] = set()
        """The runs of the tests before: one site serves them all, for it takes seconds to come and to go."""
        functions = 1 if apps else 0
        until = time.monotonic() + PATIENT_S
        while len(self.get("/v1/functions") or []) < functions or self.get("/v1/functions") is None:
            assert self.process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.05)

    def get(self, path: str) -> list[dict[str, Any]] | None:
        try:
            with urllib.request.urlopen(self.url + path, timeout=PATIENT_S) as answer:
                return json.load(answer)["data"]
        except (urllib.error.URLError, OSError):
            return None

    def one(self, path: str) -> dict[str, Any]:
        with urllib.request.urlopen(self.url + path, timeout=PATIENT_S) as answer:
            return json.load(answer)["data"]

    def publish(self, *kinds: str) -> None:
        body = json.dumps([{"name": "order/paid", "data": {"kind": kind, "order": 1042}} for kind in kinds])
        urllib.request.urlopen(urllib.request.Request(f"{self.url}/e/x", body.encode()), timeout=PATIENT_S).close()

    def send(self, name: str, *several: dict[str, Any]) -> None:
        body = json.dumps([{"name": name, "data": data} for data in several])
        urllib.request.urlopen(urllib.request.Request(f"{self.url}/e/x", body.encode()), timeout=PATIENT_S).close()

    def runs(self, query: str = "") -> list[str]:
        """Return the runs of this test."""
        found = [str(run["id"]) for run in self.get(f"/v1/runs?{query}") or []]
        return [run for run in found if run not in self.before]

    def run(self, status: str) -> str:
        until = time.monotonic() + PATIENT_S
        while not (found := self.runs(f"status={status}&function=shop-ship-order")):
            assert time.monotonic() < until, f"no run is {status}"
            time.sleep(0.05)
        return found[0]

    def close(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(PATIENT_S) == 0


@pytest.fixture(scope="module")
def shared_site(tmp_path_factory: pytest.TempPathFactory) -> Generator[Site]:
    made = Site(tmp_path_factory.mktemp("site"), "tests.browser.app:app")
    yield made
    made.close()


@pytest.fixture
def site(shared_site: Site) -> Site:
    shared_site.before.update(shared_site.runs())
    return shared_site


def look(browser: Any, url: str) -> None:
    """Open a page on a phone: nothing may be wrong on its console, nothing wider than the screen.

    tests/browser/test_every_page.py looks at all pages on every screen, and asks axe-core.
    """
    context = browser.new_context(**LOOKS["phone"])
    page = context.new_page()
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(url)
    page.wait_for_function("document.documentElement.classList.contains('js')")
    assert not wrong, wrong
    wide = wider_than_the_screen(page)
    assert wide <= 0, f"{url} is {wide} px too wide"
    context.close()


def open_page(browser: Any, url: str) -> Any:
    page = browser.new_context(**LOOKS["light"]).new_page()
    page.goto(url)
    return page


def test_an_empty_bus_says_what_to_do(browser: Any, tmp_path: Path) -> None:
    site = Site(tmp_path)
    try:
        look(browser, site.url)
        page = open_page(browser, site.url)
        assert "No function is registered yet" in page.inner_text("main")
        page.get_by_role("link", name="Runs").click()
        page.wait_for_selector("text=Nothing has run yet")
        page.get_by_role("link", name="Events").click()
        page.wait_for_selector("text=No event has been published")
    finally:
        site.close()


def test_runs_in_every_state_are_shown_on_every_screen(browser: Any, site: Site) -> None:
    look(browser, site.url)
    site.publish("plain", "fail", "wait")
    completed, failed, waiting = site.run("completed"), site.run("failed"), site.run("waiting")
    look(browser, f"{site.url}/runs")
    look(browser, f"{site.url}/runs/{completed}")
    look(browser, f"{site.url}/runs/{failed}")
    look(browser, f"{site.url}/runs/{waiting}")
    page = open_page(browser, f"{site.url}/runs/{failed}")
    assert "the address <b>does not exist</b>" in page.inner_text("main")
    page = open_page(browser, f"{site.url}/runs/{waiting}")
    assert "cooling-off-period" in page.inner_text("main")
    assert "due in 13 d" in page.inner_text("main")


def test_a_run_that_waits_for_others_says_for_whom_and_its_buttons_act(browser: Any, site: Site) -> None:
    site.publish("ask")
    parent = next(iter(until_runs(site, "waiting", "shop-ship-order")))
    until_runs(site, "waiting", "shop-insure")
    look(browser, f"{site.url}/runs/{parent}")
    page = open_page(browser, f"{site.url}/runs/{parent}")
    told = page.inner_text("main")
    assert "waits for order/cleared with the same data.order" in told
    assert "waits for shop-insure" in told
    assert "60 %" in told
    page.set_viewport_size(LOOKS["phone"]["viewport"])
    assert page.locator("progress").bounding_box()["width"] > 200, "the bar has room on a phone too"
    page.set_viewport_size(LOOKS["light"]["viewport"])
    page.locator("#ask-cancel summary").click()
    page.get_by_role("button", name="Cancel this run").click()
    page.wait_for_selector("h1 .status.cancelled")
    page.get_by_role("button", name="Run again", exact=True).first.click()
    page.wait_for_selector("text=Runs again")
    assert parent in page.inner_text("main")


def test_what_was_waited_for_in_vain_is_told_and_the_child_is_one_click_away(browser: Any, site: Site) -> None:
    site.publish("late")
    (run,) = until_runs(site, "completed", "shop-ship-order")
    look(browser, f"{site.url}/runs/{run}")
    page = open_page(browser, f"{site.url}/runs/{run}")
    told = page.inner_text("#steps")
    assert told.count("timed out") == 2
    assert "waited for order/cleared with the same data.order" in told
    page.locator("#steps").get_by_text("called shop-insure").get_by_role("link").click()
    page.wait_for_selector("h1:has-text('shop-insure')")
    assert run in page.inner_text("main")


def test_a_misspelt_event_is_the_first_under_events(browser: Any, site: Site) -> None:
    site.send("order/payed", {"order": 1})
    look(browser, f"{site.url}/events")
    page = open_page(browser, site.url)
    page.get_by_role("link", name="Events").click()
    page.wait_for_selector("td:has-text('nobody listens')")
    unheard = page.locator("tbody tr", has_text="nobody listens").first
    assert "order/payed" in unheard.inner_text()
    page.get_by_role("link", name="shop-ship-order").first.click()
    page.wait_for_selector("h1:has-text('ship-order')")


def test_what_is_not_there_has_a_page_that_says_so(browser: Any, site: Site) -> None:
    for path in ("/runs/nope", "/functions/nobody", "/nothing/at/all"):
        page = open_page(browser, site.url + path)
        assert "404" in page.inner_text("main")
        page.get_by_role("link", name="Back to the runs").click()
        page.wait_for_selector("text=Latest runs")


def test_a_button_pressed_while_the_page_is_fetched_anew_still_acts(browser: Any, site: Site) -> None:
    site.publish("wait")
    run = site.run("waiting")
    page = open_page(browser, f"{site.url}/runs/{run}")
    fetched: list[Any] = []
    page.route(f"**/runs/{run}", lambda route: fetched.append(route))
    until = time.monotonic() + PATIENT_S
    while not fetched:
        assert time.monotonic() < until, "the page does not look again"
        page.wait_for_timeout(20)
    page.locator("#ask-cancel summary").click()
    page.get_by_role("button", name="Cancel this run").hover()
    page.mouse.down()
    answer = fetched[0].fetch()
    fetched[0].fulfill(response=answer, body=answer.text().replace("Cancel this run", "Cancel it"))
    page.evaluate("fetch('/health').then(answer => answer.text())")  # that answer was read before this one
    page.unroute(f"**/runs/{run}")
    page.mouse.up()
    page.wait_for_selector("h1 .status.cancelled", timeout=10_000)


def until_runs(site: Site, status: str, function: str) -> list[str]:
    until = time.monotonic() + PATIENT_S
    while not (found := site.runs(f"status={status}&function={function}")):
        assert time.monotonic() < until, f"no run of {function} is {status}"
        time.sleep(0.05)
    return found


def test_a_payload_of_a_mebibyte_is_shown_cut(browser: Any, site: Site) -> None:
    site.publish("big")
    run = site.run("completed")
    look(browser, f"{site.url}/runs/{run}")
    assert "1,048,587 bytes" in open_page(browser, f"{site.url}/runs/{run}").inner_text("main")


def test_a_page_follows_a_run_to_its_end_and_keeps_open_what_the_reader_opened(browser: Any, site: Site) -> None:
    site.publish("retry")
    retrying = site.run("waiting")
    look(browser, f"{site.url}/runs/{retrying}")
    site.publish("slow")
    run = site.run("running")
    page = open_page(browser, f"{site.url}/runs/{run}")
    page.wait_for_selector(".status.running")
    page.wait_for_selector("#panel-1")
    page.locator("#panel-1").evaluate("element => { element.open = true; }")
    page.wait_for_selector(".status.completed", timeout=10_000)
    assert page.locator("#panel-1").evaluate("element => element.open")
    assert page.get_attribute("#main", "data-topic") == ""


def test_the_page_says_so_when_the_site_is_gone_and_comes_back(browser: Any, tmp_path: Path) -> None:
    site = Site(tmp_path, "tests.browser.app:app")
    page = open_page(browser, site.url)
    site.close()
    page.wait_for_selector("#stale:not([hidden])", timeout=10_000)


def test_what_is_read_stands_still_while_new_runs_come(browser: Any, site: Site) -> None:
    site.publish("plain", "plain")
    first = site.run("completed")
    page = open_page(browser, f"{site.url}/runs?function=shop-ship-order")
    page.keyboard.press("j")
    here = page.evaluate("document.activeElement.getAttribute('href')")
    rows = page.eval_on_selector_all("[data-row]", "all => all.map(row => row.id)")
    assert f"run-{first}" in rows
    page.locator("#more-filters summary").click()
    page.fill("[name=where]", "event.data.order ==")
    page.evaluate("document.querySelector('[data-row] a').focus()")
    site.publish("plain")
    page.wait_for_selector("#new a")
    assert page.eval_on_selector_all("[data-row]", "all => all.map(row => row.id)") == rows
    assert page.evaluate("document.activeElement.getAttribute('href')") == here
    assert page.locator("#more-filters").evaluate("element => element.open")
    assert page.input_value("[name=where]") == "event.data.order =="
    page.locator("#new a").click()
    page.wait_for_function("count => document.querySelectorAll('[data-row]').length > count", arg=len(rows))
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_selector("#verdict")
    page.keyboard.press("/")
    page.keyboard.type("ship-order")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=Looked at")
    page.keyboard.press("?")
    page.wait_for_selector("#keys[open]")


def test_moments_are_told_in_the_zone_that_the_reader_chose(browser: Any, site: Site) -> None:
    site.publish("plain")
    run = site.run("completed")
    page = browser.new_context(**LOOKS["light"], timezone_id="Asia/Kolkata").new_page()
    page.goto(f"{site.url}/runs/{run}")
    moment = page.locator("dl time").first
    utc = datetime.fromisoformat(moment.inner_text())
    page.locator("#zone").click()
    assert datetime.fromisoformat(moment.inner_text()) - utc == timedelta(hours=5, minutes=30)
    page.reload()
    assert datetime.fromisoformat(moment.inner_text()) - utc == timedelta(hours=5, minutes=30)


def test_everything_is_read_and_done_without_script(browser: Any, site: Site) -> None:
    site.publish("ask")
    until_runs(site, "waiting", "shop-insure")
    page = browser.new_context(**LOOKS["light"], java_script_enabled=False).new_page()
    page.goto(site.url)
    page.get_by_role("link", name="Runs").click()
    page.get_by_label("waiting").check()
    page.locator("#of-functions summary").click()
    page.locator("#of-functions").get_by_label("shop-ship-order").check()
    page.get_by_role("button", name="Show").click()
    assert "status=waiting" in page.url
    page.locator("[data-row] a").first.click()
    assert "Waits for" in page.inner_text("#verdict")
    page.locator("#ask-copy summary").click()
    assert "bus run" in page.inner_text("#ask-copy")
    page.locator("#ask-rerun summary").click()
    page.fill("textarea[name=data]", '{"kind": "plain", "order": 7}')
    page.get_by_label("beside this one, which has not ended").check()
    page.locator("#ask-rerun").get_by_role("button").click()
    assert "Runs again" in page.inner_text("main")
    assert '"order": 7' in page.inner_text("#event")
    page.go_back()
    page.locator("#ask-cancel summary").click()
    page.get_by_role("button", name="Cancel this run").click()
    page.wait_for_selector("h1 .status.cancelled")


def test_rows_are_chosen_by_keys_and_cancelled_once_by_a_double_click(browser: Any, site: Site) -> None:
    site.publish("wait", "wait", "wait")
    until(lambda: len(site.runs("status=waiting&function=shop-ship-order")) == 3, "three wait")
    before = len(site.get("/v1/operations") or [])
    page = browser.new_page(viewport={"width": 1200, "height": 800})
    page.goto(f"{site.url}/runs?status=waiting&function=shop-ship-order")
    assert page.get_by_role("button", name="Cancel 0 chosen").is_disabled()
    for key in "jxjx":
        page.keyboard.press(key)
    chosen = page.locator("input[name=run]:checked")
    assert chosen.count() == 2
    shown = page.locator(".asof time").get_attribute("datetime")
    until(lambda: page.locator(".asof time").get_attribute("datetime") != shown, "the page is taken again")
    assert chosen.count() == 2, "what is chosen stays so"
    page.get_by_role("button", name="Cancel 2 chosen").click()
    page.get_by_role("button", name="Cancel 2 runs").dblclick()
    page.locator("#state", has_text="done").wait_for()
    assert page.locator("#done").inner_text() == "2"
    assert len(site.get("/v1/operations") or []) == before + 1
    assert len(site.runs("status=waiting&function=shop-ship-order")) == 1


def test_a_functions_page_shows_its_limits_and_who_waits_for_them(browser: Any, site: Site) -> None:
    look(browser, f"{site.url}/functions/shop-resize-image")
    site.send("image/uploaded", *({"user": user, "n": n} for n in range(6) for user in ("ann", "ben<b>", "cy")))
    until = time.monotonic() + PATIENT_S
    while sum(line["waiting"] for line in site.one("/v1/functions/shop-resize-image")["lines"]) != 12:
        assert time.monotonic() < until
        time.sleep(0.05)
    look(browser, f"{site.url}/functions/shop-resize-image")
    told = open_page(browser, f"{site.url}/functions/shop-resize-image").inner_text("main")
    assert "2 at a time per event.data.user" in told
    assert "ben<b>" in told
    page = open_page(browser, site.url)
    page.get_by_role("link", name="resize-image").click()
    page.wait_for_selector("text=Waiting for a limit")


def elsewhere(work: Coroutine[Any, Any, Any]) -> None:
    """Run something in a thread: Playwright has its own loop in this one."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, work).result()


# A response that the test has seen is not yet read by the page: time let pass then would pass before the next timer.
COUNTS_TIMERS = """
  window.timersSet = 0;
  const set = window.setTimeout;
  window.setTimeout = (...given) => { window.timersSet += 1; return set(...given) };
"""


def timers_are_set(page: Any, count: int) -> None:
    page.wait_for_function("count => window.timersSet >= count", arg=count)


def test_limits_schedules_workers_errors_and_the_system_are_shown_and_acted_on(browser: Any, site: Site) -> None:
    site.publish("fail")
    site.run("failed")
    page = open_page(browser, f"{site.url}/limits")
    page.wait_for_selector("main >> text=2 at a time per event.data.user")
    for name in ("limits", "schedules", "workers", "errors", "system"):
        look(browser, f"{site.url}/{name}")
    page.locator("summary", has_text="Set until a time").first.click()
    page.get_by_label("Set to").first.fill("7")
    page.get_by_role("button", name="Set it").first.click()
    page.wait_for_selector("text=concurrency is set to 7")
    look(browser, f"{site.url}/limits")
    page.get_by_role("button", name="Take back concurrency of shop-resize-image").click()
    page.wait_for_selector("text=concurrency is set to 7", state="detached")
    page.get_by_role("link", name="Workers").click()
    page.locator("summary", has_text="Drain…").click()
    page.get_by_role("button", name="Drain ").wait_for()
    page.locator("summary", has_text="serves").click()
    page.locator("details[open]").get_by_role("link", name="shop-resize-image").wait_for()
    page.get_by_role("link", name="Schedules").click()
    assert "At 09:30, on day 1 of the month, only in January" in page.inner_text("main")
    page.get_by_role("button", name="Run shop-yearly-report now").click()
    page.wait_for_url("**/runs/*")
    until(lambda: site.runs("function=shop-yearly-report"), "the schedule's function has run")
    page.get_by_role("link", name="System").click()
    page.get_by_role("button", name="Check everything").click()
    page.wait_for_selector("text=all that workers need")
    quiet = browser.new_context(**LOOKS["phone"], java_script_enabled=False).new_page()
    quiet.goto(f"{site.url}/errors")
    assert "NonRetriable" in quiet.inner_text("main")
    row = quiet.locator("tr[data-row]", has_text="NonRetriable")
    row.get_by_text("Resolve or mute").click()
    row.locator("details").get_by_role("button", name="Resolve NonRetriable").click()
    quiet.get_by_role("link", name="resolved").click()
    assert "NonRetriable" in quiet.inner_text("main")


def test_plushifys_gallery_follows_what_is_in_process_and_gives_up_after_five_minutes(
    browser: Any, tmp_path: Path
) -> None:
    port = free_port()
    with scratch() as redis_url:
        environ = {
            **os.environ, "BUS_REDIS_URL": redis_url, "PLUSHIFY_FOLDER": str(tmp_path),
            "PYTHONPATH": os.pathsep.join(["examples/plushify", "examples/stand-ins"]),
        }  # fmt: skip
        command = [sys.executable, "-m", "uvicorn", "plushify.web:web", "--port", str(port), "--log-level", "warning"]
        process = subprocess.Popen(command, env=environ)
        try:
            while True:
                assert process.poll() is None
                with contextlib.suppress(urllib.error.URLError):
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=PATIENT_S).close()
                    break
                time.sleep(0.05)
            page = browser.new_context(**LOOKS["light"]).new_page()
            asked: list[str] = []
            page.on("request", lambda request: asked.append(request.url) if "/api/generations/" in request.url else 0)
            page.clock.install()
            page.add_init_script(COUNTS_TIMERS)
            page.goto(f"http://127.0.0.1:{port}/")
            page.wait_for_selector("text=10 available (0 in use)")
            page.clock.pause_at(
                datetime.now(UTC) + timedelta(hours=1)
            )  # else it goes on beside what the test lets pass
            (tmp_path / "photo.png").write_bytes(photo("#88aadd"))
            page.set_input_files("#file", [str(tmp_path / "photo.png")] * 2)
            page.wait_for_selector("text=8 available (2 in use)")
            page.wait_for_function("document.querySelectorAll('li.processing').length === 2")
            studio = Studio(tmp_path)
            done, waits = (
                one.removeprefix("g-") for one in page.eval_on_selector_all("li", "all => all.map(e => e.id)")
            )
            studio.put("plushie.png", photo("#dd9988"))
            elsewhere(studio.complete(done, "ada", "plushie.png"))
            timers_are_set(page, 2)
            page.clock.run_for(3_000)
            page.wait_for_selector(f"#g-{done}.completed")
            page.wait_for_selector("text=8 available (1 in use)")
            for rounds in range(98):
                timers_are_set(page, 3 + rounds)
                page.clock.run_for(3_000)
            timers_are_set(page, 101)
            assert asked.count(f"http://127.0.0.1:{port}/api/generations/{waits}") == 99
            page.clock.run_for(3_000)
            page.wait_for_selector("text=This takes longer than usual")
            asked.clear()
            page.clock.run_for(60_000)
            elsewhere(studio.fail(waits, f"{waits}-1", "no wool"))
            page.clock.resume()
            page.reload()
            page.wait_for_selector("text=no wool")
            assert asked == []
            page.get_by_role("button", name="Try again").click()
            page.wait_for_selector(f"#g-{waits}.processing")
            assert asked == [f"http://127.0.0.1:{port}/api/generations/{waits}/retry"]
        finally:
            process.terminate()
            process.wait()
