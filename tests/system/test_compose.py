"""compose.yaml and the Dockerfile: what they say is what the commands take, and each container has what it needs, no more."""

import os
import re
import tomllib
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from stepstream.bus import settings
from stepstream.bus.trust.redaction import DEFAULT
from tests.forks import Forked
from tests.patience import PATIENT_S
from tests.support import ROOT, free_port, until
from tests.system.test_login import HTML, field

KEYS = {"BUS_SESSION_KEY": "s" * 32, "BUS_EVENT_KEYS": "an-event-key", "APP": "shop:app"}
COMPOSE = (ROOT / "compose.yaml").read_text()


class Missing(Exception):
    """A variable without which compose does not start."""


def services(environ: dict[str, str]) -> dict[str, Any]:
    """Return the services as compose sees them in an environment."""

    def value(found: re.Match[str]) -> str:
        name, kind, more = found.groups()
        if not environ.get(name) and kind == ":?":
            raise Missing(f"{name} {more}")
        return environ.get(name) or (more if kind == ":-" else "")

    said = re.sub(r"^ *#.*$", "", COMPOSE, flags=re.MULTILINE)
    made = yaml.safe_load(re.sub(r"\$\{(\w+)(:[?-])([^}]*)\}", value, said))["services"]
    for one in made.values():
        named = one.get("environment", {}).items()
        one["environment"] = {  # one without a value is there as it is around compose, or not at all
            name: environ[name] if text is None else text for name, text in named if text is not None or name in environ
        }
    return made


@pytest.mark.parametrize("missing", KEYS)
def test_compose_says_what_is_missing(missing: str) -> None:
    with pytest.raises(Missing, match=f"{missing} .*(openssl rand -hex 32|of your Bus)"):
        services({name: value for name, value in KEYS.items() if name != missing})


def test_each_container_has_settings_that_are_right_and_only_the_page_has_its_secrets() -> None:
    made = services(KEYS)
    for name in ("page", "worker"):
        settings.read(
            {one: text for one, text in made[name]["environment"].items() if one.startswith("BUS_")}, strict=True
        )
    assert {"BUS_SESSION_KEY", "BUS_API_TOKENS", "BUS_EVENT_KEYS"} <= set(made["page"]["environment"])
    assert set(made["worker"]["environment"]) == {
        "BUS_REDIS_URL", "BUS_SIGNING_KEY", "BUS_SIGNING_KEY_FALLBACK", "BUS_APP_HOSTS",
        "BUS_ALERT_WEBHOOK", "BUS_PUBLIC_URL", "BUS_CODEC", "BUS_BLOBS_URL",
    }  # fmt: skip
    assert made["page"]["ports"] == ["127.0.0.1:8288:8288"]
    assert "ports" not in made["redis"]
    assert "--expose" not in COMPOSE


def test_what_alerts_and_hides_reaches_page_and_worker_and_an_unset_pattern_stays_unset() -> None:
    """Alerts could not be set at all; BUS_REDACT="" would hide nothing."""
    given = {"BUS_ALERT_WEBHOOK": "https://hooks.example/a", "BUS_PUBLIC_URL": "https://bus.example"}
    made = services({**KEYS, **given})
    for name in ("page", "worker"):
        found = settings.read({one: text for one, text in made[name]["environment"].items() if one.startswith("BUS_")})[
            0
        ]
        assert (found.alert_webhook, found.public_url) == tuple(given.values())
        assert found.redact == DEFAULT
        assert services({**KEYS, "BUS_REDACT": "iban"})[name]["environment"]["BUS_REDACT"] == "iban"


def test_each_container_begins_again_and_is_asked_whether_it_works() -> None:
    for name, made in services(KEYS).items():
        assert made["restart"] == "unless-stopped", name
        assert made["healthcheck"]["test"], name


def test_the_page_of_compose_starts_has_a_log_in_and_answers_to_its_names(url: str, tmp_path: Path) -> None:
    page, port = services({**KEYS, "BUS_ALLOW_HOSTS": "bus.shop.example"})["page"], free_port()
    environ = {**os.environ, **page["environment"], "BUS_REDIS_URL": url}
    serving = Forked(*page["command"].split(), "--port", str(port), env=environ, err=tmp_path / "err")
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", headers=HTML, timeout=PATIENT_S) as http:

            def status(path: str, host: str) -> int:
                try:
                    return http.get(path, headers={"host": host}).status_code
                except httpx2.ConnectError:
                    assert serving.poll() is None, (tmp_path / "err").read_text()
                    return 0

            until(lambda: status("/health", "localhost:8288") == 200, "that it listens")
            wanted = {"localhost:8288": 303, "page:8288": 303, "bus.shop.example": 303, "evil.example": 421}
            assert {host: status("/runs", host) for host in wanted} == wanted
            form = http.get("/login").text
            assert field(form, "token")
            assert "bus users add NAME --role admin" in form
            assert http.post(f"/e/{KEYS['BUS_EVENT_KEYS']}", json={"name": "a", "data": {}}).status_code == 200
            assert http.post("/e/another", json={"name": "a", "data": {}}).status_code == 401
    finally:
        serving.terminate()
        serving.wait(PATIENT_S)


def test_a_worker_of_compose_may_export_traces_with_what_the_image_has() -> None:
    """The extra was not in the image: a worker that was told where traces go ended."""
    given = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}
    assert services({**KEYS, **given})["worker"]["environment"].items() >= given.items()
    assert not given.keys() & services(KEYS)["worker"]["environment"].keys()
    [extras] = re.findall(r"^ARG EXTRAS=(\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {"otel"} <= set(extras.split(",")) <= known.keys()
    assert 'install --no-cache-dir ".${EXTRAS:+[$EXTRAS]}"' in (ROOT / "Dockerfile").read_text()


def test_the_image_runs_as_a_user_whose_number_is_not_root_s() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    users = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert len(users) == 1
    assert int(users[0]) > 0, "by its number: Kubernetes does not look names up"
    assert any(f"useradd --uid {users[0]} " in line for line in lines)
    assert lines.index(f"USER {users[0]}") < lines.index('ENTRYPOINT ["bus"]')
