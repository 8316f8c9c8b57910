"""Blobs in a bucket of S3: moto's server over HTTP, with its rights. What cannot serve is told with the way out."""

import logging
import os
import socket
import sys
from collections.abc import AsyncIterator, Generator
from typing import Any

import boto3
import httpx2
import pytest
from moto.server import ThreadedMotoServer

from stepstream.bus.blobs import opening
from stepstream.bus.blobs.opening import open_store
from stepstream.bus.blobs.probe import probe
from stepstream.bus.blobs.store import AT_ONCE, Blob
from stepstream.bus.errors import BlobGone, ConfigError, StoreUnfit
from tests import forks

KEY, SECRET = "AKIAOFTESTS", "of-tests-and-not-shown"
URL = "s3://results/installation/one"


@pytest.fixture(scope="module")
def s3() -> Generator[str]:
    """The address of a server with an empty bucket `results`."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    client(address, "s3").create_bucket(Bucket="results")
    yield address
    server.stop()


def client(address: str, service: str) -> Any:
    return boto3.client(
        service, endpoint_url=address, region_name="us-east-1", aws_access_key_id=KEY, aws_secret_access_key=SECRET
    )


def environ(address: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
    }


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the tests, whatever the machine has."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in environ("http://127.0.0.1:9").items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def at(s3: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3)
    return s3


async def listed(told: AsyncIterator[Blob]) -> dict[str, int]:
    return {blob.key: blob.size async for blob in told}


async def test_what_is_put_is_got_and_listed_below_the_prefix_and_deleted(at: str) -> None:
    store = open_store(URL)
    for data in b"one", b"\0" * 6_000_000, b"":
        await store.put("runs/1/aa.bin", data)
        assert await store.get("runs/1/aa.bin") == data
    await store.put("runs/10/aa", b"12")
    there = {one["Key"] for one in client(at, "s3").list_objects_v2(Bucket="results")["Contents"]}
    assert there == {"installation/one/runs/1/aa.bin", "installation/one/runs/10/aa"}
    assert await listed(store.list()) == {"runs/1/aa.bin": 0, "runs/10/aa": 2}
    assert await listed(store.list("runs/1")) == {"runs/1/aa.bin": 0}
    assert await listed(store.list(older_than_ms=3_600_000)) == {}
    await store.delete(["runs/1/aa.bin", "runs/10/aa", "runs/never"])
    with pytest.raises(BlobGone, match=r"s3://results/installation/one does not have 'runs/1/aa\.bin'"):
        await store.get("runs/1/aa.bin")
    assert await listed(store.list()) == {}
    assert await store.tidy() == 0


async def test_more_blobs_than_are_listed_and_deleted_at_once(at: str) -> None:
    store, keys = open_store("s3://results"), [f"many/{n}" for n in range(AT_ONCE + 1)]
    for key in keys:
        await store.put(key, b"1")
    assert set(await listed(store.list("many"))) == set(keys)
    await store.delete(keys)
    assert await listed(store.list()) == {}


async def everything(url: str, timeout_s: float = 30.0) -> list[StoreUnfit]:
    """Return what each call of a store that cannot serve raises."""
    store = open_store(url, timeout_s)
    told = list[StoreUnfit]()
    for asked in store.put("a", b"1"), store.get("a"), store.delete(["a"]), listed(store.list()):
        with pytest.raises(StoreUnfit) as error:
            await asked
        assert SECRET not in str(error.value)
        assert "\n" not in str(error.value)
        told.append(error.value)
    return told


async def test_a_bucket_that_is_not_there_is_not_a_blob_that_is_lost(at: str) -> None:
    for error in await everything("s3://nobody/x"):
        assert error.state == "missing"
        assert str(error).startswith("s3://nobody/x: ")
        assert "NoSuchBucket: The specified bucket does not exist" in str(error)
        assert "make the bucket" in str(error)


async def test_credentials_that_are_not_right_are_told_with_the_rights_that_are_needed(
    at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    iam = client(at, "iam")
    iam.create_user(UserName="reader")
    made = iam.create_access_key(UserName="reader")["AccessKey"]
    httpx2.post(f"{at}/moto-api/reset-auth", content="0").raise_for_status()  # from here on rights are looked at
    try:
        for error in await everything(URL):
            assert error.state == "refused", error
            assert "InvalidAccessKeyId" in str(error)
            assert "s3:PutObject" in str(error)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", made["AccessKeyId"])
        for error in await everything(URL):
            assert error.state == "refused", error
            assert "SignatureDoesNotMatch" in str(error)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", made["SecretAccessKey"])
        for error in await everything(URL):
            assert error.state == "refused", error
            assert "AccessDenied" in str(error)
    finally:
        httpx2.post(f"{at}/moto-api/reset-auth", content="inf")


async def test_without_credentials_it_says_which_variables_to_set(at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")  # where a machine would ask for its role
    with pytest.raises(StoreUnfit, match="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give") as error:
        await open_store(URL).put("a", b"1")
    assert error.value.state == "refused"


async def test_where_no_server_is_it_says_so() -> None:
    for error in await everything(URL):
        assert error.state == "unreachable"
        assert "http://127.0.0.1:9" in str(error)
        assert "AWS_ENDPOINT_URL" in str(error)


async def test_a_server_that_hangs_holds_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        for error in await everything(URL, timeout_s=0.3):
            assert error.state == "timeout"


async def test_a_site_that_is_no_store_has_lost_nothing(at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"{at}/moto-api/nowhere")
    with pytest.raises(StoreUnfit) as error:
        await open_store(URL).get("a")
    assert error.value.state == "wrong", error.value
    assert "is what AWS_ENDPOINT_URL" in str(error.value)


@pytest.mark.parametrize("address", ["minio:9000", "not an address", "https://user:hunter2@minio:9000", "ftp://minio"])
def test_an_endpoint_that_is_no_address_is_refused_and_not_shown(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    with pytest.raises(ConfigError, match="AWS_ENDPOINT_URL must be an address like https://minio") as told:
        open_store(URL)
    assert address not in str(told.value)


def test_a_variable_of_aws_that_makes_no_sense_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "maybe")
    with pytest.raises(ConfigError, match=f'{URL}: .*failed to parse "maybe" as boolean$'):
        open_store(URL)


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "obstore" or name.endswith("blobs.bucket")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "obstore", None)  # as where it is not installed
    with pytest.raises(ConfigError, match=r"pip install 'stepstream\[blobs\]'"):
        opening.open_store(URL)


async def test_a_probe_leaves_nothing(at: str) -> None:
    await probe(open_store(URL))
    assert await listed(open_store(URL).list()) == {}


async def test_bus_doctor_tries_the_bucket(at: str, url: str) -> None:
    told = {
        bucket: forks.bus(
            "doctor",
            env={
                **environ(at),
                "BUS_REDIS_URL": url,
                "PATH": "/usr/bin:/bin",
                "BUS_BLOBS_URL": bucket,
                "COLUMNS": "300",
            },
        ).stdout
        for bucket in (URL, "s3://nobody")
    }
    assert f"a probe was written, read and deleted at {URL}" in told[URL]
    assert "NoSuchBucket" in told["s3://nobody"]
