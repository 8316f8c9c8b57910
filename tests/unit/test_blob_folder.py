"""Blobs in a folder: whole or not there, whatever ends their writer; and what is told of a folder that cannot serve."""

import asyncio
import os
import signal
import stat
import threading
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path

import pytest

from stepstream.bus import settings
from stepstream.bus.blobs.folder import LEFT_S, THREADS, UNFINISHED
from stepstream.bus.blobs.opening import open_store
from stepstream.bus.blobs.probe import probe
from stepstream.bus.blobs.store import AT_ONCE, Blob, BlobStore
from stepstream.bus.errors import BlobGone, ConfigError, StoreUnfit
from tests.blob_writers import FORKS, put_in_vain, write_for_ever
from tests.patience import PATIENT_S


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "made when missing" / "blobs"


@pytest.fixture
def store(root: Path) -> BlobStore:
    return open_store(root.as_uri())


async def listed(told: AsyncIterator[Blob]) -> dict[str, int]:
    return {blob.key: blob.size async for blob in told}


def unfinished(root: Path) -> list[Path]:
    return list((root / UNFINISHED).iterdir())


async def test_what_is_put_is_got_and_put_again_and_deleted(store: BlobStore, root: Path) -> None:
    for data in b"one", b"\0" * 5_000_000, b"":
        await store.put("runs/1/aa.bin", data)
        assert await store.get("runs/1/aa.bin") == data
    assert unfinished(root) == []
    await store.delete(["runs/1/aa.bin", "runs/1/never"])
    with pytest.raises(BlobGone, match=r"does not have 'runs/1/aa\.bin'") as gone:
        await store.get("runs/1/aa.bin")
    assert (gone.value.key, gone.value.store) == ("runs/1/aa.bin", root.as_uri())
    assert [path.name for path in root.iterdir()] == [UNFINISHED], "no empty folder is left"


async def test_others_cannot_read_what_runs_return(store: BlobStore, root: Path) -> None:
    await store.put("a/b", b"payload")
    paths = [path for path in (root, *root.rglob("*")) if path.name != UNFINISHED]
    assert len(paths) == 3
    assert [path for path in paths if stat.S_IMODE(path.stat().st_mode) & 0o007] == []


async def test_what_is_there_is_listed_by_the_parts_of_its_key_and_by_age(store: BlobStore, root: Path) -> None:
    for key in "a/1", "a/b/2", "ab/3", "4":
        await store.put(key, b"x" * len(key))
    assert await listed(store.list()) == {"a/1": 3, "a/b/2": 5, "ab/3": 4, "4": 1}
    assert await listed(store.list("a")) == {"a/1": 3, "a/b/2": 5}
    assert await listed(store.list("nothing")) == {}
    hour_ago = (root / "a/1").stat().st_mtime - 3_600
    for key in "a/1", "4":
        os.utime(root / key, (hour_ago, hour_ago))
    assert await listed(store.list(older_than_ms=600_000)) == {"a/1": 3, "4": 1}
    await store.put("4", b"x")
    assert await listed(store.list(older_than_ms=600_000)) == {"a/1": 3}, "what is put again is young again"


async def test_what_else_lies_in_the_folder_is_left_alone(store: BlobStore, root: Path) -> None:
    await store.put("a/1", b"x")
    (root / ".hidden").write_text("of somebody")
    (root / "a" / "with blanks").write_text("of somebody")
    (root / "a" / "link").symlink_to(root / ".hidden")
    assert await listed(store.list()) == {"a/1": 1}


async def test_more_blobs_than_are_listed_and_deleted_at_once(store: BlobStore, root: Path) -> None:
    keys = [f"many/{n}" for n in range(2 * AT_ONCE + 1)]
    (root / "many").mkdir(parents=True)
    for key in keys:
        (root / key).write_bytes(b"1")
    assert set(await listed(store.list("many"))) == set(keys)
    await store.delete(keys)
    assert await listed(store.list()) == {}


async def test_who_writes_beside_one_who_deletes_the_last_of_a_folder_loses_nothing(store: BlobStore) -> None:
    async def write(n: int) -> None:
        await store.put(f"shared/folder/{n}", b"kept")

    async def come_and_go(n: int) -> None:
        for _ in range(20):
            await store.put(f"shared/folder/gone-{n}", b"x")
            await store.delete([f"shared/folder/gone-{n}"])

    await asyncio.gather(*(write(n) for n in range(20)), *(come_and_go(n) for n in range(3)))
    assert set(await listed(store.list())) == {f"shared/folder/{n}" for n in range(20)}


@pytest.mark.parametrize(
    "key", ["", "/a", "../a", "a/../b", "a//b", "a/", ".unfinished/a", "a b", "a\n", "ä", "a" * 513, "a/./b"]
)
async def test_no_key_leads_out_of_the_store(store: BlobStore, key: str) -> None:
    for asked in store.put(key, b""), store.get(key), store.delete([key]):
        with pytest.raises(ConfigError, match="is no key of a blob"):
            await asked


async def test_a_writer_that_dies_in_the_middle_leaves_the_blob_as_it_was(store: BlobStore, root: Path) -> None:
    await store.put("a/1", b"as it was")
    writer = FORKS.Process(target=put_in_vain, args=(store.shown,))
    writer.start()
    writer.join(PATIENT_S)
    assert writer.exitcode == -signal.SIGXFSZ
    assert await store.get("a/1") == b"as it was"
    assert await listed(store.list()) == {"a/1": 9}
    (left,) = unfinished(root)
    assert left.stat().st_size == 100_000
    assert await store.tidy() == 0, "its writer may be at work"
    long_ago = left.stat().st_mtime - LEFT_S - 1
    os.utime(left, (long_ago, long_ago))
    assert await store.tidy() == 1
    assert unfinished(root) == []


async def test_kill_9_of_a_writer_leaves_no_half_blob(store: BlobStore) -> None:
    for round_ in range(5):
        here, there = FORKS.Pipe()
        writer = FORKS.Process(target=write_for_ever, args=(store.shown, there))
        writer.start()
        for _ in range(2 + round_):
            assert here.poll(PATIENT_S)
            here.recv()
        assert writer.pid is not None
        os.kill(writer.pid, signal.SIGKILL)
        writer.join(PATIENT_S)
        found = await listed(store.list())
        assert found
        for key in found:
            data = await store.get(key)
            assert sha256(data[32:]).digest() == data[:32], key
        here.close()
        there.close()


async def test_a_folder_that_hangs_holds_nobody_and_few_threads(root: Path) -> None:
    root.mkdir(parents=True)
    os.mkfifo(root / "slow")  # who opens it for reading waits for a writer
    store, before = open_store(root.as_uri(), timeout_s=0.05), set(threading.enumerate())
    for _ in range(THREADS + 3):
        with pytest.raises(StoreUnfit, match=r"file:///.* has not answered within 0\.05 s") as told:
            await store.get("slow")
        assert told.value.state == "timeout"
    held = set(threading.enumerate()) - before
    assert len(held) == THREADS
    os.close(os.open(root / "slow", os.O_WRONLY))  # lets them go
    patient = open_store(root.as_uri())
    await patient.put("quick", b"1")
    assert await patient.get("quick") == b"1"


async def test_a_folder_that_is_not_there_has_lost_nothing(store: BlobStore) -> None:
    with pytest.raises(StoreUnfit, match=r"No such file or directory .*is it mounted"):
        await store.get("a/1")
    assert await listed(store.list()) == {}
    await store.delete(["a/1"])
    assert await store.tidy() == 0


@pytest.mark.parametrize(
    ("path", "state", "told"),
    [
        ("/sys/blobs", "refused", "(Operation not permitted|Permission denied|Read-only file system) .*let the user"),
        ("/etc/hostname/blobs", "unreachable", "File exists .*is it mounted, and a folder"),
    ],
)
async def test_a_folder_that_cannot_be_written_is_told_with_the_way_out(path: str, state: str, told: str) -> None:
    with pytest.raises(StoreUnfit, match=f"file://{path}: {told}") as error:
        await open_store(f"file://{path}").put("a", b"1")
    assert error.value.state == state


async def test_a_probe_leaves_nothing(store: BlobStore, root: Path) -> None:
    await probe(store)
    assert await listed(store.list()) == {}
    assert unfinished(root) == []


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("/var/lib/stepstream", "must be file:///var/lib/stepstream or s3"),
        ("ftp://a/b", "must be file:///"),
        ("file://var/lib", "must name a folder"),
        ("file:///", "must name a folder"),
        ("s3://", "must name a bucket"),
        ("s3:///prefix", "must name a bucket"),
        ("s3://bucket//prefix", "must name a bucket"),
        ("file:///a%00b", "must be file:///"),
        ("s3://[bucket", "is no URL"),
    ],
)
def test_a_url_of_no_store_is_refused_with_what_was_expected(url: str, told: str) -> None:
    with pytest.raises(ConfigError, match=f"^BUS_BLOBS_URL .*{told}") as error:
        settings.read({"BUS_BLOBS_URL": url})
    assert repr(url) in str(error.value)


@pytest.mark.parametrize(
    "url", ["s3://KEYID:hunter2secret@bucket/a", "s3://bucket/a?secret=hunter2secret", "s3://bucket/#hunter2secret"]
)
def test_a_url_with_a_secret_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(
        ConfigError, match=r"^BUS_BLOBS_URL must be a URL without user, password and parameters"
    ) as told:
        settings.read({"BUS_BLOBS_URL": url})
    assert "hunter2" not in str(told.value)


def test_the_bound_is_256_kib_and_at_least_4() -> None:
    assert settings.read({})[0].blobs_url == ""
    assert settings.read({})[0].blobs_above == 256 * 1_024
    assert settings.read({"BUS_BLOBS_ABOVE": "4096"})[0].blobs_above == 4_096
    with pytest.raises(ConfigError, match=r"^BUS_BLOBS_ABOVE must be at least 4096 .*got 4095$"):
        settings.read({"BUS_BLOBS_ABOVE": "4095"})
