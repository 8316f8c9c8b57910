"""Traces over processes: workers export over HTTP, one is killed in the middle of a run, and each span is there once."""

import json
import os
from collections import Counter
from pathlib import Path

from stepstream.bus.observe.traceparent import parsed
from tests import forks
from tests.support import ValkeyProcess, WorkerProcess, until
from tests.system.otlp import Collector, collecting
from tests.system.test_tracing import GIVEN

APP = "tests.system.traced_app:app"


def tree(collector: Collector) -> dict[str, str]:
    names = {span.span_id: span.name for span in collector.spans}
    return {span.name: names.get(span.parent_span_id, span.parent_span_id.hex()) for span in collector.spans}


def test_a_worker_killed_in_mid_run_leaves_one_trace_with_each_span_once(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    with ValkeyProcess(tmp_path) as server, collecting() as collector:
        environ = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "50",
            "BUS_LEASE": "500ms", "BEGUN": str(begun), "TRACEPARENT": GIVEN,
        }  # fmt: skip
        with WorkerProcess(APP, server.url, log=tmp_path / "log", environ=environ) as killed:
            killed.wait_ready()
            sent = forks.bus("send", "paid", env={**os.environ, **environ, "BUS_REDIS_URL": server.url})
            assert sent.returncode == 0, sent.stderr
            until(begun.exists, "the body has begun")
            until(lambda: "night" in collector.names(), "what was done before is exported")
            killed.kill()
        with WorkerProcess(APP, server.url, log=tmp_path / "log2", environ=environ) as worker:
            until(lambda: "shop-ship" in collector.names(), "the run has ended")
            worker.process.terminate()
            worker.process.wait(30)
    assert tree(collector) == {
        "shop-ship": "b7ad6b7169203331",
        "label": "shop-ship",
        "label attempt 1": "label",
        "night": "shop-ship",
        "parcel": "shop-ship",
        "parcel attempt 1": "parcel",
        "thank": "shop-ship",
        "shop-thank": "thank",
    }
    assert max(Counter(collector.names()).values()) == 1
    given = parsed(GIVEN)
    assert given is not None
    assert {span.trace_id.hex() for span in collector.spans} == {f"{given.trace_id:032x}"}
    assert collector.services == {"shop"}
    said = [json.loads(line) for line in (tmp_path / "log2").read_text().splitlines() if '"thanks"' in line]
    assert [(one["trace"], one["function"], one["attempt"]) for one in said] == [
        (f"{given.trace_id:032x}", "shop-thank", 1)
    ]


def test_a_worker_that_ends_exports_what_it_has_made(tmp_path: Path) -> None:
    (tmp_path / "begun").touch()
    with ValkeyProcess(tmp_path) as server, collecting() as collector:
        environ = {
            "OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_BSP_SCHEDULE_DELAY": "3600000", "OTEL_SERVICE_NAME": "orders", "BEGUN": str(tmp_path / "begun"),
        }  # fmt: skip
        with WorkerProcess(APP, server.url, log=tmp_path / "log", environ=environ) as worker:
            worker.wait_ready()
            env = {**os.environ, "BUS_REDIS_URL": server.url}
            done = forks.bus("invoke", "shop-ship", "--wait", "30", env=env)
            assert done.returncode == 0, done.stderr
            assert collector.spans == []
            worker.process.terminate()
            worker.process.wait(30)
    assert "shop-ship" in collector.names()
    assert collector.services == {"orders"}
