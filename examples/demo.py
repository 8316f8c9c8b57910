"""`make demo`: bus dev with plushify, eight requests of two users, one of them broken; shows the runs as they go.

With --exit it ends when every run has: 0 when each ended as it should, else 1. Without, the page stays up until Ctrl-C.
"""

import argparse
import base64
import hashlib
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import httpx2
import redis
from rich.console import Console

from examples.plushify import credits_key, photo
from stepstream.bus.process.dev_server import running_url
from stepstream.bus.values.durations import in_words

USERS = ("ada", "ben")
FUNCTION = "plushify-generate-plushie"
CREDITS = 10
WITHIN_S = 60.0
FOLDER = Path(".bus")
_COLOURS = {"completed": "green", "failed": "red", "waiting": "yellow", "running": "blue", "queued": "blue"}
console = Console(highlight=False)


def requests() -> list[dict[str, Any]]:
    """Return eight requests with new ids each time; the last but one is broken, and one meets an overloaded model."""
    colours = ("#88aadd", "#dd9988", "#99bb77", "#bb99cc", "#ddcc88", "#77bbbb", "#aaaaaa", "#cc88aa")
    batch = uuid.uuid4().hex[:6]
    events: list[dict[str, Any]] = []
    for place, colour in enumerate(colours):
        generation = f"{batch}-{place}"
        while place == 2 and not _is_overloaded(generation):
            generation += "x"
        image = b"this is no image" if place == 6 else photo(colour)
        data = {
            "generationId": generation,
            "userId": USERS[place % 2],
            "imageData": base64.b64encode(image).decode(),
            "imageType": "image/png",
        }
        events.append({"name": "plushie/generate.requested", "id": f"generate-{generation}", "data": data})
    return events


def _is_overloaded(generation: str) -> bool:
    return hashlib.sha256(generation.encode()).digest()[0] % 4 == 0


def wait_until_ready(http: httpx2.Client, dev: "subprocess.Popen[bytes]") -> None:
    """Wait until the site answers and the function is registered."""
    until = time.monotonic() + WITHIN_S
    while time.monotonic() < until:
        if dev.poll() is not None:
            raise SystemExit(dev.returncode or 1)
        try:
            answer = http.get("/v1/functions")
            if answer.status_code == 200 and any(row["slug"] == FUNCTION for row in answer.json()["data"]):
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.1)
    raise SystemExit("demo: bus dev did not come up within a minute")


def follow(http: httpx2.Client, events: list[dict[str, Any]], since: int) -> dict[str, dict[str, Any]]:
    """Print each run as its status changes, until all have ended; return them by event id."""
    wanted = {event["id"]: event["data"] for event in events}
    shown: dict[str, str] = {}
    found: dict[str, dict[str, Any]] = {}
    until = time.monotonic() + WITHIN_S
    while time.monotonic() < until:
        rows = http.get("/v1/runs", params={"function": FUNCTION, "since": since, "limit": 1000}).json()["data"]
        for row in reversed(rows):
            if shown.get(row["id"]) == row["status"]:
                continue
            run = http.get(f"/v1/runs/{row['id']}").json()["data"]  # a list has no payloads
            shown[run["id"]] = run["status"]
            event_id = run["event"]["id"]
            if event_id in wanted:
                found[event_id] = run
                took = in_words(run["ended"] - run["started"]) if run.get("ended") else ""
                why = run["error"]["message"] if run.get("error") and run["status"] != "completed" else ""
                colour = _COLOURS.get(run["status"], "default")
                user = wanted[event_id]["userId"]
                console.print(
                    f"  {run['id']}  {user}  [{colour}]{run['status']:<10}[/]{took:>8}  {why}", soft_wrap=True
                )
        if len(found) == len(wanted) and all(run.get("ended") for run in found.values()):
            break
        time.sleep(0.2)
    return found


def all_is_well(store: "redis.Redis", events: list[dict[str, Any]], runs: dict[str, dict[str, Any]]) -> bool:
    """Return whether every run ended as it should and each plushie cost exactly one credit."""
    wrong: list[str] = []
    made = dict.fromkeys(USERS, 0)
    for place, event in enumerate(events):
        status = runs.get(event["id"], {}).get("status", "missing")
        expected = "failed" if place == 6 else "completed"
        made[event["data"]["userId"]] += status == "completed"
        if status != expected:
            wrong.append(f"{event['id']} is {status}, should be {expected}")
    for user in USERS:
        left = int(store.get(credits_key(user)) or 0)
        if left != CREDITS - made[user]:
            wrong.append(f"{user} has {left} credits, should have {CREDITS - made[user]}")
        else:
            console.print(f"  {user} made {made[user]} plushies and has {left} of {CREDITS} credits left")
    for line in wrong:
        console.print(f"  [red]{line}[/]")
    return not wrong


def main() -> int:
    """Run the demo; the exit code says whether it went well."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--exit", action="store_true", help="end when every run has")
    arguments.add_argument("--port", default=os.environ.get("PORT", "8288"))
    options = arguments.parse_args()
    address = f"http://127.0.0.1:{options.port}"
    command = [sys.executable, "-m", "stepstream", "dev", "examples.plushify:app", "--port", options.port]
    # Its own session: Ctrl-C reaches it through us, once.
    dev = subprocess.Popen(command, start_new_session=True)
    try:
        with httpx2.Client(base_url=address, timeout=10, trust_env=False) as http:
            wait_until_ready(http, dev)
            store = redis.Redis.from_url(os.environ.get("BUS_REDIS_URL") or running_url() or "")
            for user in USERS:
                store.set(credits_key(user), CREDITS)
            events = requests()
            since = int(time.time() * 1000) - 1000
            answer = http.post("/e/demo", json=events)
            answer.raise_for_status()
            console.print(
                f"published {len(answer.json()['ids'])} requests; one image is broken, one model is overloaded"
            )
            runs = follow(http, events, since)
            well = all_is_well(store, events, runs)
        console.print("[green]every run ended as it should[/]" if well else "[red]something went wrong[/]")
        console.print(f"the page: {address}")
        if not options.exit:
            console.print("Ctrl-C ends it")
            dev.wait()
        return 0 if well else 1
    except KeyboardInterrupt:
        return 0
    finally:
        if dev.poll() is None:
            dev.send_signal(signal.SIGTERM)
            dev.wait(timeout=40)


if __name__ == "__main__":
    sys.exit(main())
