"""The tick pipeline: one write a tick, replies matched in order, and what happens when the connection breaks."""

import asyncio
import re
import shutil
import socket
import subprocess
import tempfile

import pytest

from stepstream.bus.errors import GroupMissing, RightMissing, StoreError, StoreUnavailable
from stepstream.bus.event import Outgoing
from stepstream.bus.settings import Settings
from stepstream.bus.values.address import address
from stepstream.bus.wire import keys
from stepstream.bus.wire.connection import opening
from stepstream.bus.wire.connection.refusals import translated
from stepstream.bus.wire.connection.retry import patiently
from stepstream.bus.wire.publishing import Publisher
from stepstream.bus.wire.scripts import Script, registered
from stepstream.bus.wire.streams import ensure_group
from stepstream.bus.wire.wire import Wire
from stepstream.consumers.turn import idle_detection
from stepstream.consumers.turn.tasks import RunTasks
from tests.patience import PATIENT_S
from tests.scripts import all_scripts
from tests.support import ValkeyProcess, eventually, free_port


async def test_replies_come_to_their_callers_in_any_mix(wire: Wire) -> None:
    calls = [wire.call("ECHO", str(n)) if n % 3 else wire.call("ECHO") for n in range(300)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(a, StoreError) if n % 3 == 0 else a == str(n).encode() for n, a in enumerate(answers))


async def test_a_cancelled_caller_does_not_cancel_the_others_nor_take_their_reply(wire: Wire) -> None:
    first, second = wire.call("ECHO", "1"), wire.call("ECHO", "2")
    await asyncio.sleep(0)
    first.cancel()
    assert await second == b"2"
    assert await wire.call("ECHO", "3") == b"3"


async def test_redis_pys_connection_still_has_the_transport_we_take(settings: Settings) -> None:
    """Private attributes, pinned: a new redis-py that moves them fails here, not in production."""
    stream, _ = await opening.opened(address(settings.redis_url), 2.0, "pin")
    assert stream.transport.get_extra_info("peername")
    assert stream._reader._buffer == b""
    stream.close()


async def test_a_lost_connection_fails_what_is_in_flight_and_opens_again(wire: Wire) -> None:
    me = await wire.call("CLIENT", "ID")
    blocked = wire.call("BLPOP", "nothing", 0)
    other = Wire(wire.settings, "other")
    await other.call("CLIENT", "KILL", "ID", me)
    with pytest.raises(StoreUnavailable):
        await blocked
    assert await wire.call("PING") == b"PONG"
    await other.close()


async def test_a_lost_reply_publishes_once(wire: Wire) -> None:
    """The connection is cut after the server has applied XADD; the retry looks before it adds."""
    publisher = Publisher(wire)
    await publisher.publish([Outgoing("e0", "a", b"{}")])
    me = await wire.call("CLIENT", "ID")
    # In one plain pipeline: the XADD is applied, then its own connection is killed before the reply is read.
    publishing = asyncio.ensure_future(
        publisher.publish([Outgoing("e1", "a", b"{}"), Outgoing("e2", "a", b"{}", own_id=True)])
    )
    await asyncio.sleep(0)
    wire.call("CLIENT", "KILL", "ID", me, "SKIPME", "no").add_done_callback(lambda f: f.exception())
    stored = await publishing
    # The answers may have come before the end of the connection does: then it ends under this read.
    entries = await patiently(lambda: wire.call("XRANGE", keys.events("a"), "-", "+"))
    assert [fields[1] for _, fields in entries] == [b"e0", b"e1", b"e2"]
    assert [one.entry.encode() for one in stored] == [entry for entry, _ in entries[1:]]


async def test_errors_are_told_by_their_first_word(wire: Wire) -> None:
    """BUSY is not BUSYGROUP."""
    await wire.call("XGROUP", "CREATE", "bus:events:{a}", "g", "$", "MKSTREAM")
    with pytest.raises(StoreError, match="BUSYGROUP"):
        await wire.call("XGROUP", "CREATE", "bus:events:{a}", "g", "$", "MKSTREAM")
    with pytest.raises(GroupMissing):
        await wire.call("XREADGROUP", "GROUP", "nope", "c", "STREAMS", "bus:events:{a}", ">")
    assert isinstance(translated("OOM command not allowed"), StoreUnavailable)


async def test_a_command_that_is_not_ours_to_run_is_waited_for(wire: Wire) -> None:
    """A user without the right, a command that was renamed: an operator mends it, no run need fail of it."""
    with pytest.raises(RightMissing, match="unknown command"):
        await wire.call("NOSUCH")
    with pytest.raises(RightMissing, match="unknown subcommand"):
        await wire.call("CLIENT", "NOSUCH")
    refused = translated("NOPERM User app has no permissions to run the 'info' command")
    assert isinstance(refused, RightMissing)
    assert isinstance(refused, StoreUnavailable)


async def test_a_server_that_does_not_answer_is_given_up(settings: Settings) -> None:
    stuck = socket.create_server(("127.0.0.1", 0))  # connects, and never says a word
    port = stuck.getsockname()[1]
    wire = Wire(Settings(redis_url=f"redis://127.0.0.1:{port}", timeout_ms=300), "test")
    with pytest.raises(StoreUnavailable):
        await wire.call("PING")
    await wire.close()
    stuck.close()


async def test_no_server_is_told_with_its_address_and_without_its_password() -> None:
    wire = Wire(Settings(redis_url=f"redis://user:secret@127.0.0.1:{free_port()}"), "test")
    with pytest.raises(StoreUnavailable, match=r"no Redis at redis://user:\*\*\*@127") as caught:
        await wire.call("PING")
    assert "secret" not in str(caught.value)
    await wire.close()


async def test_a_script_that_is_imported_after_the_connection_has_opened_is_not_lost(wire: Wire, tmp_path) -> None:
    """One that nobody waits for was sent by its SHA-1 alone: a server that did not have it never did it."""
    await wire.call("PING")
    (tmp_path / "lua").mkdir()
    for name in ("late", "later"):
        (tmp_path / "lua" / f"{name}.lua").write_text(f"return redis.call('INCR', KEYS[1]) -- {name}")
    wire.tell_script(Script(tmp_path, "late"), ["bus:late"])
    await eventually(lambda: wire.call("GET", "bus:late"), "the script has run")
    assert await wire.script(Script(tmp_path, "later"), ["bus:late"]) == 2
    await wire.call("DEL", "bus:late")


async def test_a_unix_socket_a_database_and_a_password_work(tmp_path) -> None:
    path = tempfile.mktemp(prefix="bus", suffix=".sock")  # a socket's path must be short
    with ValkeyProcess(tmp_path, "--unixsocket", path) as valkey:
        wire = Wire(Settings(redis_url=f"unix://{path}?db=3"), "test")
        await wire.call("SET", "here", "3")
        await wire.script(all_scripts()["lease_renew"], [keys.workers()], "w.0", 1000, 1)
        assert b"db3:keys=2" in await wire.call("INFO", "keyspace")
        await wire.call("CONFIG", "SET", "requirepass", "s3cret")
        await wire.close()
        good = Wire(Settings(redis_url=valkey.url.replace("//", "//:s3cret@")), "test")
        assert await good.call("PING") == b"PONG"
        await good.close()
        bad = Wire(Settings(redis_url=valkey.url.replace("//", "//:wrong@")), "test")
        with pytest.raises(StoreUnavailable, match=r"redis://:\*\*\*@127.*refuses the user or the password"):
            await bad.call("PING")
        await bad.close()


@pytest.mark.skipif(
    not (shutil.which("redis-server") and shutil.which("openssl")), reason="NOT RUN: no redis-server with TLS"
)
async def test_tls_by_url_verifies_the_server(tmp_path) -> None:
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
               "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]  # fmt: skip
    subprocess.run(request, check=True, capture_output=True)
    port = free_port()
    server = subprocess.Popen(
        ["redis-server", "--port", "0", "--tls-port", str(port), "--tls-cert-file", str(cert), "--tls-key-file", str(key),
         "--tls-ca-cert-file", str(cert), "--tls-auth-clients", "no", "--save", "", "--dir", str(tmp_path)],
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        trusting = Wire(Settings(redis_url=f"rediss://127.0.0.1:{port}?ssl_ca_certs={cert}"), "test")
        await patiently(lambda: trusting.call("PING"), 10.0)
        big = "x" * 1_000_000
        assert await asyncio.gather(*(trusting.call("ECHO", f"{n}{big}") for n in range(5))) == [
            f"{n}{big}".encode() for n in range(5)
        ]
        await trusting.script(all_scripts()["lease_renew"], [keys.workers()], "w.0", 1000, 1)
        await trusting.close()
        doubting = Wire(Settings(redis_url=f"rediss://127.0.0.1:{port}"), "test")
        with pytest.raises(StoreUnavailable, match="certificate"):
            await doubting.call("PING")
        await doubting.close()
    finally:
        server.terminate()
        server.wait(PATIENT_S)


async def test_opening_a_connection_belongs_to_no_run(settings: Settings) -> None:
    """A run whose tick happens to open the connection must not count that task as its own, and cancel it at its end."""
    adopted: list[object] = []

    class Tasks(RunTasks):
        def adopt(self, task: object) -> None:
            adopted.append(task)

    loop = asyncio.get_running_loop()
    idle_detection.install(loop)
    token = idle_detection.current.set(Tasks())
    wire = Wire(settings, "test")
    try:
        assert await wire.call("PING") == b"PONG"
    finally:
        idle_detection.current.reset(token)
        loop.set_task_factory(None)
        await wire.close()
    assert adopted == []


async def test_opening_that_is_cancelled_before_the_servers_greeting_leaves_no_socket_open() -> None:
    """uvloop's close() waits for an open socket for ever: a worker that was stopped as it started hung at its end."""
    gone = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1_000):
            greeted.set()
        gone.set()
        writer.close()

    greeted = asyncio.Event()
    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    work = asyncio.ensure_future(opening.opened(address(f"redis://:pw@127.0.0.1:{port}/0"), 5.0, "x"))
    await asyncio.wait_for(greeted.wait(), PATIENT_S)
    work.cancel()
    with pytest.raises(asyncio.CancelledError) as held:  # what is held here holds the frames, and redis-py's connection
        await work
    await asyncio.wait_for(gone.wait(), PATIENT_S)
    assert held.value is not None
    server.close()


async def test_a_group_sees_the_first_entry_of_the_millisecond_it_begins_in(wire: Wire) -> None:
    """An event published within a millisecond of its function's registration was missed."""
    await wire.call("XADD", "bus:events:{a}", "4999-7", "data", "{}")
    await wire.call("XADD", "bus:events:{a}", "5000-0", "data", "{}")
    await ensure_group(wire, "bus:events:{a}", "g", 5_000)
    reply = await wire.call("XREADGROUP", "GROUP", "g", "c", "STREAMS", "bus:events:{a}", ">")
    assert [entry for entry, _ in reply[0][1]] == [b"5000-0"]


async def test_a_connection_loads_the_scripts_that_the_server_has_not_and_no_other(wire: Wire) -> None:
    """Each of them was sent by each connection that opened: a quarter of a megabyte, and a millisecond of Redis."""

    async def loaded() -> int:
        told = await wire.call("INFO", "commandstats")
        found = re.search(rb"cmdstat_script\|load:calls=(\d+)", told)
        return int(found[1]) if found else 0

    async def opened() -> int:
        before, another = await loaded(), Wire(wire.settings, "another")
        await another.call("PING")
        await another.close()
        return await loaded() - before

    await wire.call("SCRIPT", "FLUSH")
    assert await opened() == len(registered())
    assert await opened() == 0
    await wire.call("SCRIPT", "FLUSH")
    assert await opened() == len(registered())
