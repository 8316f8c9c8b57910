"""What a worker keeps: of turns that have left nothing, whatever they knew; and of big answers a bounded part."""

import asyncio
import gc
import tracemalloc
from collections.abc import Generator
from typing import Any

import pytest

from stepstream.bus.event import Outgoing
from stepstream.bus.retry import Retry
from stepstream.bus.wire import keys
from stepstream.bus.wire.publishing import Publisher
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.actions.rerun import rerun
from stepstream.checkpoint.waits.event_waits import look_back
from stepstream.consumers.turn.turn import Turn
from tests.support import Lab, eventually


@pytest.fixture
def uncollected() -> Generator[None]:
    """The garbage collector looks at loaded code so seldom that what it must find stays for minutes."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class Big:
    """What a handler holds."""

    alive = 0

    def __init__(self) -> None:
        Big.alive += 1

    def __del__(self) -> None:
        Big.alive -= 1


async def _sleeps(ctx: Any, step: Any) -> None:
    held = Big()
    await step.run("big", lambda: "x" * 1_000)
    for n in range(5):
        await step.sleep(f"s{n}", 0.001)
    del held


async def _side_by_side(ctx: Any, step: Any) -> None:
    async def one(n: int) -> None:
        held = Big()
        await step.run(f"r{n}", lambda: n)
        await step.sleep(f"s{n}", 0.002 * n)
        del held

    await asyncio.gather(*(one(n) for n in range(10)))


async def _in_a_group(ctx: Any, step: Any) -> None:
    async with asyncio.TaskGroup() as group:
        for n in range(5):
            group.create_task(step.sleep(f"s{n}", 0.002 * n))


async def _fails_in_a_thread(ctx: Any, step: Any) -> None:
    held = Big()

    def fails() -> None:
        raise RuntimeError("no")

    try:
        await step.run("fails", fails, retries=Retry(1, backoff=0.01))
    except Exception:
        await step.sleep("s", 0.001)
        raise
    del held


async def _waits(ctx: Any, step: Any) -> None:
    held = Big()
    await step.wait_for_event("w", "never", timeout=0.01)
    await asyncio.wait([asyncio.ensure_future(step.sleep("a", 0.01)), asyncio.ensure_future(step.sleep("b", 0.01))])
    ctx.progress(50)
    del held


async def _takes_long(ctx: Any, step: Any) -> None:
    await step.run("long", asyncio.sleep, 0.25)
    await step.sleep("s", 0.001)


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("handler", [_sleeps, _side_by_side, _in_a_group, _fails_in_a_thread, _waits, _takes_long])
async def test_a_turn_that_has_left_is_freed_without_the_garbage_collector(lab: Lab, handler: Any) -> None:
    """One run of 150 turns with 10 MB of memos took a worker from 70 to 1,201 MB: each turn referred to itself."""
    Big.alive = 0
    lab.app.function("f", on="a", retries=0)(handler)
    worker = await lab.work()
    await lab.send("a")
    await lab.one()
    await lab.no_turns(worker)
    await lab.idle()

    async def none_left() -> bool:
        return not any(type(one) is Turn for one in gc.get_objects()) and Big.alive == 0

    await eventually(none_left, "no turn is left")


class Site:
    """An HTTP server of this loop: `parts` are sent for each request, whatever it asks; keeps count."""

    def __init__(self, head: str, part: bytes, parts: int, pause: float = 0.0) -> None:
        self.head, self.part, self.parts, self.pause = head, part, parts, pause
        self.sent = self.connections = self.open = 0
        self.requests: list[bytes] = []
        self.port = 0

    async def __aenter__(self) -> "Site":
        self._server = await asyncio.start_server(self._guest, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *error: object) -> None:
        self._server.close()

    async def _guest(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        try:
            while request := await reader.readuntil(b"\r\n\r\n"):
                self.requests.append(request)
                writer.write(f"HTTP/1.1 200 OK\r\n{self.head}\r\n\r\n".encode())
                for _ in range(self.parts):
                    writer.write(self.part)
                    await writer.drain()
                    self.sent += len(self.part)
                    await asyncio.sleep(self.pause)
        except (OSError, RuntimeError, asyncio.IncompleteReadError):
            pass  # the guest has gone; uvloop tells of a write behind that by a RuntimeError
        finally:
            self.open -= 1
            writer.close()


MB = 1_000_000


@pytest.mark.parametrize("head", [f"Content-Length: {300 * MB}", "Connection: close"])
async def test_an_answer_that_is_too_big_is_not_read_to_its_end(lab: Lab, head: str) -> None:
    """300 MB were all read, and took 707 MB, before they were refused."""

    @lab.app.function("f", on="a", retries=0)
    async def f(ctx: Any, step: Any) -> None:
        await step.fetch("big", f"http://127.0.0.1:{site.port}/", retries=0)

    async with Site(head, b"x" * MB, 300) as site:
        await lab.work()
        tracemalloc.start()
        try:
            await lab.send("a")
            run = await lab.one()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert run.error is not None
        assert "a step keeps" in run.error.message
        assert peak < 20 * MB
        assert site.sent < 30 * MB


async def test_one_client_serves_all_fetches_keeps_no_cookie_and_closes_with_its_worker(lab: Lab) -> None:
    @lab.app.function("f", on="a", retries=0)
    async def f(ctx: Any, step: Any) -> None:
        for n in range(3):
            await step.fetch(f"n{n}", f"http://127.0.0.1:{site.port}/{n}")

    async with Site("Content-Length: 2\r\nSet-Cookie: who=ada; Path=/", b"ok", 1) as site:
        worker = await lab.work()
        await lab.send("a")
        assert (await lab.one()).status == "completed"
        assert (site.connections, len(site.requests)) == (1, 3)
        assert not any(b"cookie" in request.lower() for request in site.requests)
        worker.stop()

        async def closed() -> bool:
            return site.open == 0

        await eventually(closed, "the connection is closed")


async def test_an_answer_that_drips_is_cut_off_at_the_timeout(lab: Lab) -> None:
    """Each byte came in time, so the whole never had to."""

    @lab.app.function("f", on="a", retries=0)
    async def f(ctx: Any, step: Any) -> None:
        await step.fetch("slow", f"http://127.0.0.1:{site.port}/", timeout=0.3, retries=0)

    async with Site("Connection: close", b"x", 1_000, pause=0.05) as site:
        await lab.work()
        await lab.send("a")
        run = await lab.one()
        assert run.error is not None
        assert "no whole answer within 0.3 s" in run.error.message


async def test_a_run_with_large_results_goes_on_after_each_wait_and_again_from_a_step(lab: Lab) -> None:
    made: list[int] = []

    @lab.app.function("f", on="a", retries=0)
    async def f(ctx: Any, step: Any) -> list[int]:
        def large(n: int) -> str:
            made.append(n)
            return str(n) * 1_000_000

        found = [await step.run(f"large{n}", large, n) for n in range(4)]
        await step.sleep("s", 0.01)
        found += [await step.run(f"more{n}", large, n) for n in range(4, 6)]
        await step.sleep("t", 0.01)
        return [len(set(text)) for text in found]

    await lab.work()
    await lab.send("a")
    run = await lab.one()
    assert (run.status, bytes(run.output or b"")) == ("completed", b"[1,1,1,1,1,1]"), run.error
    assert made == [0, 1, 2, 3, 4, 5]
    again = await rerun(lab.wire, run.id, "more4")
    assert bytes((await lab.status(again, "completed")).output or b"") == b"[1,1,1,1,1,1]"
    assert made == [0, 1, 2, 3, 4, 5, 4, 5]
    assert not lab.notices


async def test_an_event_that_answers_many_waits_is_not_copied_for_all_of_them_at_once(lab: Lab) -> None:
    """Each wait is sent its own copy, and all copies stood in one write: a thousand waits of 1 MB were 2 GB."""

    @lab.app.function("f", on="a", retries=0)
    async def f(ctx: Any, step: Any) -> int:
        came = await step.wait_for_event("w", "big", timeout="1h")
        return len(came.data["text"])

    await lab.work()
    for _ in range(60):
        await lab.send("a")

    async def all_wait() -> bool:
        return await lab.wire.call("ZCARD", keys.waits("big")) == 60

    await eventually(all_wait, "all wait")
    tracemalloc.start()
    try:
        await lab.send("big", {"text": "x" * MB})
        ended = await lab.ended(60)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert {bytes(run.output or b"") for run in ended} == {b"1000000"}
    assert peak < 80 * MB, peak


async def test_looking_back_over_large_events_reads_a_few_megabytes_at_a_time(wire: Wire) -> None:
    """A page of 500 events of 1 MB was one answer of 500 MB."""
    publisher = Publisher(wire)
    for n in range(100):
        await publisher.publish([Outgoing(f"e{n}", "big", b'"' + b"x" * MB + b'"')])
    tracemalloc.start()
    try:
        seen = [event.id async for _, event in look_back(wire, "big", 0, "+")]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert seen == [f"e{n}" for n in range(100)]
    assert peak < 60 * MB, peak


async def test_looking_back_sees_every_event_once_whatever_its_size(wire: Wire) -> None:
    sizes = [10 ** (n % 6) for n in range(300)]
    await Publisher(wire).publish([Outgoing(f"e{n}", "a", b"1" * size) for n, size in enumerate(sizes)])
    assert [event.id async for _, event in look_back(wire, "a", 0, "+")] == [f"e{n}" for n in range(300)]
