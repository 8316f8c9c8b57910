"""The example that `make demo` shows runs on every server; each project's own tests are run by `make examples`."""

import json
from pathlib import Path

import pytest
from plushify.actions import submit
from plushify.functions import app
from plushify.pictures import photo
from plushify.studio import Studio

from tests.support import Lab


async def test_plushify_makes_plushies_takes_a_credit_each_and_refuses_what_is_no_image(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLUSHIFY_FOLDER", str(tmp_path))
    monkeypatch.setenv("STAND_INS", str(tmp_path / "stand-ins.json"))
    (tmp_path / "stand-ins.json").write_text(json.dumps({"model/draw/*": {"fail": 1}}))
    lab.app = app
    app.connect(lab.wire)
    await lab.work(app=app)
    studio = Studio(tmp_path)
    every = [await submit(studio, user, "image/png", photo("#88aadd")) for user in ("ada", "ben") * 3]
    broken = await submit(studio, "ada", "image/png", b"this is no image")
    runs = await lab.ended(8)
    failure = next(run for run in runs if run.function == "plushify-generate-plushie-failure")
    assert json.loads(bytes(failure.output or b"")) == ["original.png"], "the blob that existed is deleted"
    assert sorted(run.status for run in runs) == ["completed"] * 7 + ["failed"]
    found = await studio.get(broken.id)
    assert found is not None
    assert (found.status, found.error) == ("failed", "this is not an image that can be read")
    assert [str(await studio.credits(user)) for user in ("ada", "ben")] == ["7 available (0 in use)"] * 2
    assert (await studio.plushie(every[0].id)).startswith(b"\x89PNG")
