"""`make demo`: bus dev with plushify and its gallery, eight photos of two users, one broken; shows the runs as they go.

With --exit it ends when every run has: 0 when each ended as it should, else 1. Without, the pages stay up until Ctrl-C.
Of plushify nothing is installed: what it needs is in this environment, and the demo names its folder.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx2
from rich.console import Console

from stepstream.bus.values.durations import in_words

HERE = Path(__file__).parent
PROJECTS = [str(HERE / "plushify"), str(HERE / "stand-ins")]
USERS = ("ada", "ben")
FUNCTION = "plushify-generate-plushie"
FOLDER = Path(".bus/plushify")
OUTSIDE = {"model/draw/*": {"slow": 0.4, "fail": 1}}
"""The model takes its time, and is overloaded once."""
BROKEN = 6
WITHIN_S = 60.0
_COLOURS = {"completed": "green", "failed": "red", "waiting": "yellow", "running": "blue", "queued": "blue"}
console = Console(highlight=False)


def photos() -> list[bytes]:
    """Return eight photos; the last but one is broken."""
    sys.path[:0] = PROJECTS
    from plushify.pictures import photo

    colours = ("#88aadd", "#dd9988", "#99bb77", "#bb99cc", "#ddcc88", "#77bbbb", "#aaaaaa", "#cc88aa")
    return [b"this is no image" if place == BROKEN else photo(colour) for place, colour in enumerate(colours)]


def wait_until(what: str, http: httpx2.Client, path: str, process: "subprocess.Popen[bytes]") -> None:
    """Wait until a server answers."""
    until = time.monotonic() + WITHIN_S
    while time.monotonic() < until:
        if process.poll() is not None:
            raise SystemExit(process.returncode or 1)
        try:
            if http.get(path).status_code == 200:
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.1)
    raise SystemExit(f"demo: {what} did not come up within a minute")


def submit(gallery: httpx2.Client) -> list[tuple[str, str]]:
    """Submit the photos, the two users in turn; return who asked, and the id of each."""
    asked: list[tuple[str, str]] = []
    for place, photo in enumerate(photos()):
        user = USERS[place % 2]
        headers = {"content-type": "image/png", "cookie": f"plushify-user={user}"}
        answer = gallery.post("/api/generations", content=photo, headers=headers)
        if answer.status_code != 202:
            raise SystemExit(f"demo: the gallery answers {answer.status_code}: {answer.text}")
        asked.append((user, answer.json()["id"]))
    return asked


def follow(http: httpx2.Client, asked: list[tuple[str, str]], since: int) -> dict[str, str]:
    """Print each run as its status changes, until all have ended; return their statuses by the id of the generation."""
    users = {generation: user for user, generation in asked}
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
            generation = run["event"]["data"]["generationId"]
            if generation in users:
                found[generation] = run
                took = in_words(run["ended"] - run["started"]) if run.get("ended") else ""
                why = run["error"]["message"] if run.get("error") and run["status"] != "completed" else ""
                status = f"[{_COLOURS.get(run['status'], 'default')}]{run['status']:<10}[/]"
                console.print(f"  {run['id']}  {users[generation]}  {status}{took:>8}  {why}", soft_wrap=True)
        if len(found) == len(users) and all(run.get("ended") for run in found.values()):
            break
        time.sleep(0.2)
    return {generation: run["status"] for generation, run in found.items()}


def all_is_well(gallery: httpx2.Client, asked: list[tuple[str, str]], statuses: dict[str, str]) -> bool:
    """Return whether every run ended as it should and each plushie cost exactly one credit."""
    wrong: list[str] = []
    made = dict.fromkeys(USERS, 0)
    for place, (user, generation) in enumerate(asked):
        status = statuses.get(generation, "missing")
        expected = "failed" if place == BROKEN else "completed"
        made[user] += status == "completed"
        if status != expected:
            wrong.append(f"{generation} is {status}, should be {expected}")
    for user in USERS:
        until = time.monotonic() + 10  # what a failed run leaves is cleaned up by a run of its own
        expected = f"{10 - made[user]} available (0 in use)"
        while True:
            told = gallery.get("/api/gallery", headers={"cookie": f"plushify-user={user}"}).json()["credits"]
            if told == expected or time.monotonic() > until:
                break
            time.sleep(0.1)
        if told == expected:
            console.print(f"  {user} made {made[user]} plushies; credits: {told}")
        else:
            wrong.append(f"{user} has {told}, should have {expected}")
    for line in wrong:
        console.print(f"  [red]{line}[/]")
    return not wrong


def main() -> int:
    """Run the demo; the exit code says whether it went well."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--exit", action="store_true", help="end when every run has")
    arguments.add_argument("--port", type=int, default=int(os.environ.get("PORT", "8288")))
    options = arguments.parse_args()
    bus_url, gallery_url = (f"http://127.0.0.1:{port}" for port in (options.port, options.port + 1))
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    told = FOLDER / "stand-ins.json"
    told.write_text(json.dumps(OUTSIDE))
    paths = os.pathsep.join([*PROJECTS, *filter(None, [os.environ.get("PYTHONPATH")])])
    environ = {**os.environ, "PYTHONPATH": paths, "PLUSHIFY_FOLDER": str(FOLDER), "STAND_INS": str(told)}
    processes: list[subprocess.Popen[bytes]] = []

    def start(module: str, *words: str) -> "subprocess.Popen[bytes]":
        # Its own session: Ctrl-C reaches it through us, once.
        command = [sys.executable, "-m", module, *words]
        processes.append(subprocess.Popen(command, env=environ, start_new_session=True))
        return processes[-1]

    def client(url: str) -> httpx2.Client:
        return httpx2.Client(base_url=url, timeout=10, trust_env=False)

    try:
        with client(bus_url) as http, client(gallery_url) as gallery:
            dev = start("stepstream", "dev", "plushify.functions:app", "--port", str(options.port))
            wait_until("bus dev", http, f"/v1/functions/{FUNCTION}", dev)
            # It finds the server of `bus dev` by itself: both were started in this folder.
            front = start("uvicorn", "plushify.web:web", "--port", str(options.port + 1), "--log-level", "warning")
            wait_until("the gallery", gallery, "/", front)
            since = int(time.time() * 1000) - 1000
            asked = submit(gallery)
            console.print(f"submitted {len(asked)} photos; one is broken, and the model is overloaded once")
            well = all_is_well(gallery, asked, follow(http, asked, since))
        console.print("[green]every run ended as it should[/]" if well else "[red]something went wrong[/]")
        console.print(f"the gallery: {gallery_url}\nits runs:    {bus_url}", highlight=False)
        if not options.exit:
            console.print("Ctrl-C ends it")
            dev.wait()
        return 0 if well else 1
    except KeyboardInterrupt:
        return 0
    finally:
        for process in processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in processes:
            process.wait(timeout=40)


if __name__ == "__main__":
    sys.exit(main())
