"""Large results of functions that are called over HTTP: the store's errors are none of their handlers."""

from pathlib import Path

import msgspec

from stepstream import Bus, Context, Step
from stepstream.bus.values.ids import partition_of
from stepstream.checkpoint.client.runs import Runs
from stepstream.checkpoint.run.resolve import hurry_failed
from stepstream.checkpoint.waits.signals import send_signal
from tests.served_app import served
from tests.support import Lab
from tests.system import test_large_results as large

folder, settings = large.folder, large.settings


async def test_a_served_function_waits_for_the_store_and_sees_no_error_of_it(lab: Lab, folder: Path) -> None:
    app, seen = Bus("shop"), list[str]()

    @app.function("makes", on="asked", retries=0)
    async def makes(ctx: Context, step: Step) -> list[str]:
        try:
            one = await step.run("one", lambda: large.LARGE)
            two = await step.run("two", lambda: f"two {one}")
            return [one, two]
        except Exception as error:
            seen.append(repr(error))
            raise

    folder.write_text("a file where the folder is to be")
    async with served(lab, app):
        await lab.send("asked")
        run = await large.told_of(lab, await lab.first("shop-makes"), "blobs_unfit")
        assert (run.status, run.attempt, run.crashes) == ("waiting", 0, 0)
        folder.unlink()
        await hurry_failed(lab.wire, "shop-makes", {"blobs_unfit"}, 61_000, partition_of(run.id))
        assert await Runs(lab.app).result(run.id) == [large.LARGE, f"two {large.LARGE}"]
        assert seen == []


async def test_a_run_waits_for_a_served_application_that_lacks_the_store_of_its_worker(lab: Lab) -> None:
    app, seen = Bus("shop"), list[str]()

    @app.function("makes", on="asked", retries=0)
    async def makes(ctx: Context, step: Step) -> int:
        try:
            told = await step.wait_for_signal("go", "go", timeout="1d")
            return len(await step.run("one", lambda: told))
        except Exception as error:
            seen.append(repr(error))
            raise

    async with served(lab, app, msgspec.structs.replace(lab.settings, blobs_url="")):
        await lab.send("asked")
        run = await lab.status(await lab.first("shop-makes"), "waiting")
        await send_signal(lab.wire, "go", large.LARGE)
        waits = await large.told_of(lab, run.id, "blobs_unfit")
        assert (waits.status, waits.attempt, waits.crashes) == ("waiting", 0, 0)
        assert "BUS_BLOBS_URL" in str(waits.error)
        assert seen == []
