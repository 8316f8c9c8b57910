"""examples/sdk as its README says: all three processes, and what is sent to them."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.sdk.sdks import HAS_NODE, NOT_RUN
from tests.support import ROOT, free_port, until

pytestmark = [pytest.mark.sdk, pytest.mark.skipif(not HAS_NODE, reason=NOT_RUN)]


def test_both_applications_do_what_the_readme_says(tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "log"
    given = {**os.environ, "PORT": str(port), "NODE_PORT": str(free_port()), "PYTHON_PORT": str(free_port())}
    given.pop("BUS_REDIS_URL", None)
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "examples.sdk.start"], cwd=ROOT, env=given, stdout=out, stderr=out
        )
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=10, trust_env=False) as http:

            def slugs() -> set[str]:
                assert process.poll() is None, log.read_text()
                try:
                    return {one["slug"] for one in http.get("/v1/functions").json()["data"]}
                except (httpx2.HTTPError, KeyError):
                    return set()

            def send(name: str, **data: Any) -> None:
                assert http.post("/e/key", json={"name": name, "data": data}).status_code == 200

            def ran(slug: str, status: str, more: int = 1) -> Any:
                found = http.get("/v1/runs", params={"function": slug, "status": status}).json()["data"]
                return found if len(found) >= more else None

            wanted = {"shop-order", "shop-ship", "shop-nightly", "letters-welcome", "letters-deliver", "letters-digest"}
            until(lambda: slugs() >= wanted, "both applications have registered", 150)
            send("shop/order.placed", order="o1", customer="ada", cents=995)
            send("letters/user.joined", user="ada")
            send("shop/report.asked")
            send("letters/digest.asked")
            until(lambda: ran("shop-order", "waiting"), "the order waits to be paid", 60)
            until(lambda: ran("letters-deliver", "completed"), "the letter is delivered", 60)
            until(lambda: ran("letters-welcome", "waiting"), "it waits to be confirmed", 60)
            until(lambda: ran("shop-nightly", "completed") and ran("letters-digest", "completed"), "both reports", 60)

            def goes_on(event: str, slug: str, **data: str) -> None:
                """Send until it is taken: a run that waits may be asleep yet, and hears only what comes then."""

                def look() -> Any:
                    send(event, **data)
                    return ran(slug, "completed")

                until(look, f"{slug} ends", 60)

            goes_on("shop/order.paid", "shop-order", order="o1")
            goes_on("letters/user.confirmed", "letters-welcome", user="ada")
            assert ran("shop-ship", "completed")
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
