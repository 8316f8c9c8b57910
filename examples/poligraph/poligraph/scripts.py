"""The scripts: what each command is, how long it may take, and what it has said at its end.

A stand-in for scripts that fetch votes, feeds and rulings: `python -m poligraph.scripts press-rss --limit=50` writes a
few lines, and a last one that says how many records it has gone through.
"""

import hashlib
import sys
from collections.abc import Mapping

import msgspec
from stand_ins import outside_sync

Flag = bool | int | float | str

SCRIPTS = {
    "votes-an": 30,
    "votes-senat": 30,
    "legislation": 20,
    "legislation-content": 60,
    "summaries-dossiers": 60,
    "summaries-scrutins": 60,
    "press-rss": 10,
    "press-analysis": 45,
    "judilibre": 20,
    "reconcile-affairs": 15,
    "factchecks": 15,
    "classify-themes": 45,
    "embeddings-factchecks": 30,
    "embeddings-press": 30,
    "prominence": 10,
    "publication-status": 10,
    "politicians-an": 15,
    "politicians-senat": 15,
    "photos": 30,
}
"""Every script, and how many minutes it may take."""

DAILY = list(SCRIPTS)[:16]
"""The steps of sync-daily, in the order in which one builds on another."""


class Told(msgspec.Struct):
    """The last line of a script."""

    processed: int


def command(script: str, flags: Mapping[str, Flag]) -> list[str]:
    """Return the command of a script: a flag that is true stands for itself, one that is false is left out."""
    words = [
        f"--{name}" if value is True else f"--{name}={value}" for name, value in flags.items() if value is not False
    ]
    return [sys.executable, "-m", "poligraph.scripts", script, *words]


def processed(output: str) -> int:
    """Return how many records a script has gone through, as its last line says; 0, when it says nothing of them."""
    lines = output.splitlines()
    try:
        return msgspec.json.decode(lines[-1] if lines else "", type=Told).processed
    except msgspec.MsgspecError:
        return 0


def main(words: list[str]) -> int:
    """Do what a script does."""
    script, *flags = words
    if script not in SCRIPTS:
        sys.stderr.write(f"there is no script {script!r}; there are {', '.join(SCRIPTS)}\n")
        return 2
    print(f"{script}: begins {' '.join(flags)}", flush=True)
    outside_sync(f"script/{script}")
    limits = [int(flag.removeprefix("--limit=")) for flag in flags if flag.startswith("--limit=")]
    found = hashlib.sha256(script.encode()).digest()[0]
    print(f"{script}: {found} records are new", flush=True)
    print(msgspec.json.encode(Told(min([found, *limits]))).decode())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
