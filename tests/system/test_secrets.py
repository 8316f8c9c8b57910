"""Secrets: whatever a site, a worker and commands say, also of what fails, none of it has a password, a key or a token."""

import contextlib
import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Generator
from pathlib import Path

import pytest
import redis

from stepstream import create_app
from stepstream.bus.settings import Settings, read
from tests import forks
from tests.support import acl_rule, free_port, until
from tests.system.test_keys import asked_of

PASSWORD = "Redis-Pw-3f7a91"
SECRETS = {
    "the password of Redis": PASSWORD,
    "the event key": "event-key-77c1d2e9",
    "the token": "token-5d2e8a4b90aa17",
    "the session key": "session-key-0a1b2c3d4e5f60718293a4b5",
    "the signing key": "signkey-test-d00df00dcafe4711d00df00dcafe4711",
    "the webhook": "T00000-B11111-hookhook",
    "a person's password": "a-persons-own-password",
    "a wrong token": "not-a-token-8877665544",
}

HIDDEN = "ada@hidden.example"
"""A field that a type hides: admins see it, and no log has it."""


@pytest.fixture
def secret_url(url: str, flushing: "redis.Redis") -> Generator[str]:
    """The server for a user of its own, with the documented rights."""
    rule = [
        "keeper" if word == "stepstream" else word.replace(">pw", f">{PASSWORD}") for word in acl_rule("stepstream")
    ]
    flushing.execute_command(*rule)
    yield f"redis://keeper:{PASSWORD}@{url.rpartition('@')[2]}"
    flushing.execute_command("ACL", "DELUSER", "keeper")


class Said:
    """All that processes and answers have said."""

    def __init__(self, folder: Path, environ: dict[str, str]) -> None:
        self._folder = folder
        self._environ = environ
        self.answers: list[str] = []
        self.processes: list[forks.Forked] = []

    def start(self, *words: str) -> forks.Forked:
        path = self._folder / f"{len(self.processes)}"
        begun = forks.Forked(*words, env=self._environ, out=path, err=path)
        self.processes.append(begun)
        return begun

    def run(self, *words: str, given: str = "", **environ: str) -> str:
        done = forks.bus(*words, env={**self._environ, **environ}, given=given)
        self.answers.append(f"{words}: {done.stdout} {done.stderr}")
        return done.stdout + done.stderr

    def ask(self, url: str, data: bytes | None = None, **headers: str) -> int:
        names = {name.replace("_", "-"): text for name, text in headers.items()}
        try:
            with urllib.request.urlopen(urllib.request.Request(url, data, names), timeout=10) as answer:
                is_stream = answer.headers.get_content_type() == "text/event-stream"
                status, text, given = answer.status, b"" if is_stream else answer.read(), answer.headers
        except urllib.error.HTTPError as error:
            status, text, given = error.code, error.read(), error.headers
        self.answers.append(f"{status} {given} {text.decode()}")
        return status

    def logs(self) -> str:
        return "".join(path.read_text() for path in self._folder.iterdir())

    def told(self) -> dict[str, str]:
        """Return each secret that somewhere was said, with what stands around it."""
        found = dict[str, str]()
        for text in (*self.answers, self.logs()):
            for name, secret in SECRETS.items():
                if (at := text.find(secret)) >= 0:
                    found[name] = text[max(0, at - 300) : at + 100]
        return found


@pytest.mark.process
def test_no_secret_is_in_a_log_a_page_an_answer_an_error_or_in_redis(
    secret_url: str, flushing: "redis.Redis", tmp_path: Path
) -> None:
    port = free_port()
    site = f"http://127.0.0.1:{port}"
    environ = {
        "PATH": os.environ["PATH"],
        "BUS_REDIS_URL": secret_url,
        "BUS_EVENT_KEYS": SECRETS["the event key"],
        "BUS_API_TOKENS": f"admin@ops:{SECRETS['the token']}",
        "BUS_SESSION_KEY": SECRETS["the session key"],
        "BUS_SIGNING_KEY": SECRETS["the signing key"],
        "BUS_ALERT_WEBHOOK": f"http://127.0.0.1:{free_port()}/services/{SECRETS['the webhook']}",
        "BUS_ALERT_EVERY": "0.5",
        "BUS_LOG_LEVEL": "debug",
        "BUS_LOG_FORMAT": "json",
        "BUS_LEASE": "1",
    }
    said = Said(tmp_path, environ)
    shown = {"Authorization": f"Bearer {SECRETS['the token']}"}
    paths = sorted(
        {
            path.partition("?")[0]
            for route, method, path in asked_of(create_app(configured=Settings(redis_url=secret_url)))
            if method == "GET"
        }
    )
    try:
        said.start("serve", "tests.system.secret_app:app", "--port", str(port))
        said.start("worker", "tests.system.secret_app:app")
        until(lambda: listens(said, site), "the site listens", 20)
        event = json.dumps({"name": "asked", "data": {"email": HIDDEN}}).encode()
        as_json = {"Content_Type": "application/json"}
        assert said.ask(f"{site}/e/{SECRETS['the event key']}", event, **as_json) == 200
        assert said.ask(f"{site}/e/{SECRETS['a wrong token']}", event, **as_json) == 401
        until(lambda: '"failed"' in said.logs() or "it cannot" in said.logs(), "a run has failed")
        said.run("users", "add", "ada", "--role", "admin", "--password-stdin", given=SECRETS["a person's password"])
        for path in paths:
            said.ask(f"{site}{path}", **shown, Accept="text/html")
            said.ask(f"{site}{path}", **shown)
            said.ask(f"{site}{path}", Authorization=f"Bearer {SECRETS['a wrong token']}")
        for name in ("a person's password", "a wrong token"):
            form = urllib.parse.urlencode({"name": "ada", "password": SECRETS[name]}).encode()
            said.ask(f"{site}/login", form)
        said.ask(f"{site}/v1/alerts/test", b"", **shown)
        for words in (
            ["doctor"], ["doctor", "--settings"], ["check"], ["functions"], ["runs"], ["audit"], ["top", "--once"],
            ["users"], ["alerts"], ["alerts", "test"], ["redis"], ["events"],
        ):  # fmt: skip
            said.run(*words)
        for name, text in environ.items():
            if name.startswith("BUS_"):
                for spoilt in (f"é{text}", f"{text},{text}"):
                    said.run("functions", **{name: spoilt})
        kept = dump(flushing)
        flushing.execute_command("ACL", "SETUSER", "keeper", "resetpass", ">another")
        flushing.execute_command("CLIENT", "KILL", "USER", "keeper")
        until(
            lambda: "WRONGPASS" in said.logs() or "password" in said.logs(), "they are told that the password is wrong"
        )
        for words in (["functions"], ["doctor"], ["send", "asked", "{}"], ["audit"]):
            said.run(*words, BUS_TIMEOUT="0.5")
        for path in ("/", "/runs", "/v1/functions", "/ready", "/metrics"):
            said.ask(f"{site}{path}", **shown)
    finally:
        for process in said.processes:
            process.terminate()
        for process in said.processes:
            process.wait(30)
    assert sum(answer.startswith("200") for answer in said.answers) > 60, "what is asked is answered"
    told = said.told()
    assert told == {}
    assert '"email": "[redacted]"' in said.logs()
    assert HIDDEN not in said.logs()
    assert [name for name, secret in SECRETS.items() if secret in kept] == []


def listens(said: Said, site: str) -> bool:
    with contextlib.suppress(OSError):
        return said.ask(f"{site}/health") == 200
    return False


def dump(store: "redis.Redis") -> str:
    """Return all that Redis holds, as text."""
    found: list[str] = []
    for key in store.scan_iter(count=1_000):
        kind = store.type(key)
        asks = {
            b"string": ("GET", key), b"hash": ("HGETALL", key), b"list": ("LRANGE", key, 0, -1), b"set": ("SMEMBERS", key),
            b"zset": ("ZRANGE", key, 0, -1), b"stream": ("XRANGE", key, "-", "+"),
        }  # fmt: skip
        found.append(f"{key} {store.execute_command(*asks[kind])}")
    return "\n".join(found)


def test_settings_show_no_secret_of_theirs() -> None:
    environ = {
        "BUS_REDIS_URL": f"redis://keeper:{PASSWORD}@127.0.0.1:6379/0",
        "BUS_EVENT_KEYS": SECRETS["the event key"],
        "BUS_API_TOKENS": SECRETS["the token"],
        "BUS_SESSION_KEY": SECRETS["the session key"],
        "BUS_SIGNING_KEY": SECRETS["the signing key"],
        "BUS_ALERT_WEBHOOK": f"https://hooks.slack.com/services/{SECRETS['the webhook']}",
    }
    configured, _ = read(environ)
    told = f"{configured!r} {configured} {configured.shown()} {configured.tokens} {configured.store}"
    assert [name for name, secret in SECRETS.items() if secret in told] == []
