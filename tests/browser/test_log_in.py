"""Logging in and out in a browser, with script and without: what is told, where one comes to, and who cannot do it for one."""

import json
import os
import urllib.parse
import urllib.request
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import redis
from argon2 import PasswordHasher

from stepstream.bus.wire import keys
from tests.browser.looking import WIDE, seen
from tests.forks import Forked
from tests.patience import PATIENT_S
from tests.support import ValkeyProcess, free_port, until

pytestmark = pytest.mark.browser
PASSWORD = "correct horse battery"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """A site with log-in, and with one who may."""
    folder: Path = tmp_path_factory.mktemp("log-in")
    with ValkeyProcess(folder) as server:
        hashed = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
        user = {"role": "operate", "password": hashed, "since": 1, "sessions": "of-ada"}
        with redis.Redis.from_url(server.url) as store:
            store.hset(keys.users(), "ada", json.dumps(user))
        port = free_port()
        environ = {**os.environ, "BUS_REDIS_URL": server.url, "BUS_SESSION_KEY": "s" * 32}
        serving = Forked("serve", "--port", str(port), env=environ, err=folder / "err")
        site = f"http://127.0.0.1:{port}"

        def listens() -> bool:
            assert serving.poll() is None, (folder / "err").read_text()
            try:
                with urllib.request.urlopen(f"{site}/health", timeout=PATIENT_S) as answer:
                    return bool(answer.status == 200)
            except OSError:
                return False

        until(listens, "the site listens")
        yield site
        serving.terminate()
        serving.wait(PATIENT_S)


@pytest.fixture(params=[True, False], ids=["with script", "without"])
def page(browser: Any, request: pytest.FixtureRequest) -> Any:
    return browser.new_context(viewport=WIDE, java_script_enabled=request.param).new_page()


def log_in(page: Any, password: str = PASSWORD) -> None:
    page.fill("#name", "ada")
    page.fill("#password", password)
    page.click("form.credentials button")
    page.wait_for_load_state()  # a window that is closed while it loads may hang the browser's driver


def test_a_wrong_password_is_told_and_the_right_one_leads_to_what_was_asked_for(page: Any, url: str) -> None:
    page.goto(f"{url}/runs?status=failed")
    assert page.url == f"{url}/login?next=%2Fruns%3Fstatus%3Dfailed"
    assert page.locator("#name").evaluate("one => one === document.activeElement")
    log_in(page, "not the password")
    assert page.inner_text("[role=alert]") == "Wrong name or password."
    assert page.input_value("#name") == "ada", "it need not be written again"
    assert page.input_value("#password") == ""
    assert page.locator("#password").evaluate("one => one === document.activeElement")
    log_in(page)
    assert page.url == f"{url}/runs?status=failed"
    assert "ada" in page.inner_text("form.who")
    (cookie,) = [one for one in page.context.cookies() if one["name"] == "stepstream_session"]
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Lax")


def test_who_logs_out_is_out_also_by_the_button_that_leads_back(page: Any, url: str) -> None:
    page.goto(f"{url}/login")
    log_in(page)
    page.goto(f"{url}/functions")
    page.click("text=Log out")
    assert page.url == f"{url}/login"
    assert not [one for one in page.context.cookies() if one["name"] == "stepstream_session"]
    page.goto(f"{url}/functions")
    assert page.url.startswith(f"{url}/login")


@pytest.mark.parametrize("after", ["//evil.example/", "https://evil.example/", "/\\evil.example/"])
def test_a_log_in_leads_to_no_other_site(page: Any, url: str, after: str) -> None:
    page.goto(f"{url}/login?next={urllib.parse.quote(after)}")
    log_in(page)
    assert page.url == f"{url}/"


def test_neither_another_site_nor_a_form_with_another_token_logs_one_in_or_out(page: Any, url: str) -> None:
    form = f"""<form method=post action="{url}/%s"><input name=token value="{"x" * 32}"><input name=name value=ada>
        <input name=password value="{PASSWORD}"><input name=next value="/"><button>Go</button></form>"""
    evil = "http://evil.example/"
    page.route(
        f"{evil}*", lambda route: route.fulfill(content_type="text/html", body=form % route.request.url[len(evil) :])
    )
    page.goto(f"{evil}login")
    page.click("text=Go")
    assert "may not act here" in page.inner_text("main")
    assert not [one for one in page.context.cookies() if one["name"] == "stepstream_session"]
    page.goto(f"{url}/login")
    page.eval_on_selector("main input[name=token]", "one => { one.value = 'x'.repeat(32) }")
    log_in(page)
    assert not [one for one in page.context.cookies() if one["name"] == "stepstream_session"]
    page.goto(f"{url}/login")
    log_in(page)
    page.goto(f"{evil}logout")
    page.click("text=Go")
    assert "may not act here" in page.inner_text("main")
    page.goto(f"{url}/runs")
    assert page.url == f"{url}/runs", "still logged in"


def test_the_log_in_is_readable_on_every_screen(browser: Any, url: str) -> None:
    page = browser.new_context(viewport=WIDE).new_page()
    page.goto(f"{url}/login")
    seen(page, "login")
    log_in(page, "not the password")
    seen(page, "login-refused")
    log_in(page)
    seen(page, "logged-in")


def test_the_name_of_who_is_logged_in_stands_in_the_line_of_the_top_bar(browser: Any, url: str) -> None:
    page = browser.new_context(viewport={"width": 1200, "height": 800}).new_page()
    page.goto(f"{url}/login")
    log_in(page)
    page.wait_for_selector(".who")
    middles = page.eval_on_selector_all(
        ".brand, .top nav, .who", "all => all.map(one => one.getBoundingClientRect()).map(at => at.y + at.height / 2)"
    )
    assert max(middles) - min(middles) < 5
