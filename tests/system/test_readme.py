"""The README's sample runs as it stands: its file, its curl, its commands."""

import json
import re
import shlex
import sys
from pathlib import Path

import pytest

from stepstream import Harness
from stepstream.bus.loading import load
from stepstream.bus.values.arguments import data_of
from tests.support import ROOT

README = (ROOT / "README.md").read_text()


@pytest.mark.anyio
async def test_the_sample_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sample = re.search(r"```python\n# (\w+)\.py\n(.*?)```", README, re.DOTALL)
    assert sample is not None
    name, app = sample[1], re.search(r"bus dev (\S+)", README)
    assert app is not None
    (tmp_path / f"{name}.py").write_text(sample[2])
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    try:
        bus = load(app[1])
        curl = re.search(r"^curl \S+/e/dev -d ('.*')$", README, re.MULTILINE)
        send = re.search(r"^bus send (.*?) *(?:#|$)", README, re.MULTILINE)
        assert curl is not None
        assert send is not None
        event, [returned, *words] = json.loads(shlex.split(curl[1])[0]), shlex.split(send[1])
        async with Harness(bus) as harness:
            await harness.send(event["name"], event["data"])
            await harness.send(returned, data_of(words))
            assert await harness.output() == "995 cents paid back"
    finally:
        sys.modules.pop(name, None)
