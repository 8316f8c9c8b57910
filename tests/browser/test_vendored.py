"""What the pages have of others is what npm has, of the version that stands beside it."""

import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.browser
VENDOR = Path(__file__).parents[2] / "web/pages/static/vendor"
PACKAGES = {"htmx": ("htmx.org", {"htmx.min.js": "package/dist/htmx.min.js", "LICENSE": "package/LICENSE"})}


def test_each_folder_is_one_that_is_compared() -> None:
    assert {path.name for path in VENDOR.iterdir()} == set(PACKAGES)
    for folder, (_, files) in PACKAGES.items():
        assert {path.name for path in (VENDOR / folder).iterdir()} == {*files, "VERSION"}


@pytest.mark.parametrize("folder", PACKAGES)
def test_vendored_files_are_those_of_the_package(folder: str, tmp_path: Path) -> None:
    package, files = PACKAGES[folder]
    version = (VENDOR / folder / "VERSION").read_text().strip()
    if shutil.which("npm") is None:
        pytest.skip("NOT RUN: no npm on this machine")
    packed = subprocess.run(["npm", "pack", f"{package}@{version}"], cwd=tmp_path, capture_output=True, text=True)
    if packed.returncode:
        pytest.skip(f"NOT RUN: npm cannot be reached: {packed.stderr[-200:]}")
    with tarfile.open(next(tmp_path.glob("*.tgz"))) as archive:
        for name, inside in files.items():
            member = archive.extractfile(inside)
            assert member is not None
            assert member.read() == (VENDOR / folder / name).read_bytes(), name
