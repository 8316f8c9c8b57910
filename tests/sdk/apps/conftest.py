"""Fixtures of tests/sdk/apps: an application with all around it, once for the tests of its file."""

from collections.abc import Callable

import pytest

from examples.sdk import projects
from tests.sdk.apps.project import Project
from tests.sdk.stack import Stack

Started = Callable[..., Project]


@pytest.fixture
def started(_stacks: dict[str, Stack], tmp_path_factory: pytest.TempPathFactory) -> Started:
    """Return what starts an application, or returns it where it has been started; `environ` is the server's."""

    def start(
        name: str, *, environ: dict[str, str] | None = None, app: dict[str, str] | None = None, kind: str = ""
    ) -> Project:
        if why := projects.missing():
            pytest.skip(why)
        key = f"{name}{kind}"
        if key not in _stacks:
            made = Project(name, tmp_path_factory.mktemp(key), environ or {}, app or {})
            try:
                made.start()
            except BaseException:
                made.stop()
                raise
            _stacks[key] = made
        found = _stacks[key]
        assert isinstance(found, Project)
        return found

    return start
