"""Start an example: `python -m examples.start NAME` runs the lines of its Procfile until Ctrl-C, or until one ends.

A line is `name: command`, as honcho and Heroku have them. The commands are those of the examples' environment.
"""

import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from examples.environment import HERE, path, projects, ready


def main(name: str) -> int:
    """Run the example's processes; the exit code is that of the one that ended first, 0 after Ctrl-C."""
    known = [project.name for project in projects() if (project / "Procfile").exists()]
    if name not in known:
        raise SystemExit(f"there is no example {name!r}; there are {', '.join(known)}")
    try:
        ready()
    except KeyboardInterrupt:  # it takes a minute the first time
        return 130
    folder = HERE / name
    lines = [line.partition(": ")[2] for line in (folder / "Procfile").read_text().splitlines() if line.strip()]
    told = (folder / "README.md").read_text().partition("<!-- told at the start -->\n")[2].partition("\n\n")[0]
    print(f"{name}\n{told}\nCtrl-C ends it", flush=True)
    return run(lines, folder)


def run(commands: Sequence[str], folder: Path) -> int:
    """Run commands until one ends, or until Ctrl-C, and then end all of them."""
    ended, asked = threading.Event(), threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        asked.set()
        ended.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    environ = {**os.environ, "PATH": path()}
    # Each in a session of its own: Ctrl-C reaches them through us, once. No shell, which would die in their place.
    processes = [
        subprocess.Popen(shlex.split(command), cwd=folder, env=environ, start_new_session=True) for command in commands
    ]
    for process in processes:
        threading.Thread(target=lambda process=process: (process.wait(), ended.set()), daemon=True).start()
    ended.wait()
    code = 0 if asked.is_set() else next((one.returncode for one in processes if one.returncode is not None), 1)
    for process in processes:
        if process.poll() is None:
            process.terminate()
    for process in processes:
        process.wait()
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else ""))
