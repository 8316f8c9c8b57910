"""Which server commands and applications use in a folder where `bus dev` runs, or has run."""

import json
import os
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from stepstream.bus import settings
from stepstream.bus.errors import ConfigError
from stepstream.bus.process import dev_server
from stepstream.bus.process.dev_server import FOLDER, held, running_url, write_note

URL = "redis://127.0.0.1:16390/0"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("BUS_REDIS_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def dev(project: Path) -> Generator[Path]:
    """A `bus dev` runs in the project."""
    with held(project / FOLDER):
        write_note(project / FOLDER, 16390, "id")
        yield project


def test_its_server_is_found_in_the_folder_and_below(dev: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.read()[0].redis_url == URL
    (dev / "src" / "shop").mkdir(parents=True)
    monkeypatch.chdir(dev / "src" / "shop")
    assert settings.read()[0].redis_url == URL
    (Path.cwd() / FOLDER).mkdir()
    write_note(Path.cwd() / FOLDER, 1, "of one that ran here once")
    assert settings.read()[0].redis_url == URL, "the nearest that runs"


def test_who_sets_the_address_gets_that_one(dev: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUS_REDIS_URL", "redis://elsewhere")
    assert settings.read()[0].redis_url == "redis://elsewhere"


def test_one_that_is_dead_is_not_taken(project: Path) -> None:
    with held(project / FOLDER):
        write_note(project / FOLDER, 16390, "id")
    assert running_url() is None, "killed: the lock goes with its process, the note stays"
    assert settings.read()[0].redis_url == "redis://127.0.0.1:6379/0"


def test_one_of_somebody_else_is_not_taken(dev: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert running_url() is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"port": "x"}', "null", json.dumps({"pid": 4})])
def test_a_note_that_makes_no_sense_is_no_note(dev: Path, text: str) -> None:
    (dev / FOLDER / "server.json").write_text(text)
    assert running_url() is None


def test_a_folder_that_is_gone_has_none(dev: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert running_url() is None


def test_a_second_bus_dev_in_a_folder_is_told_of_the_first(dev: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It took the server of the first, and lost it with the first."""
    monkeypatch.setattr(dev_server, "_PATIENCE_S", 0.0)
    with (
        pytest.raises(ConfigError, match=rf"runs on .* already \(process {os.getpid()}\).*--folder .*--port"),
        held(dev / FOLDER),
    ):
        pass


def test_whoever_asks_does_not_keep_it_from_starting(project: Path) -> None:
    with held(project / FOLDER):
        pass
    assert running_url() is None
    with held(project / FOLDER):
        pass


def test_a_person_is_told_once_and_a_program_is_not(
    dev: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dev_server, "_told", set())
    dev_server.tell(URL)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(dev_server, "_told", set())
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    dev_server.tell(URL)
    dev_server.tell(URL)
    assert capsys.readouterr().err == f"using the Redis of bus dev, {URL}; BUS_REDIS_URL chooses another\n"


def test_a_bus_dev_that_is_started_later_is_found_then(project: Path) -> None:
    early = settings.read()[0]
    assert not settings.has_moved(early)
    with held(project / FOLDER):
        write_note(project / FOLDER, 16390, "id")
        assert settings.has_moved(early)
        assert not settings.has_moved(settings.read()[0])
        assert not settings.has_moved(settings.Settings()), "somebody has said which"
