"""docs/monitoring: the board and the alert rules ask only for what a real site and a real worker tell."""

import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis
import yaml
from prometheus_client.parser import text_string_to_metric_families as families
from starlette.testclient import TestClient

from stepstream import Context, Cron, Retry, Step
from stepstream.bus.observe.signals import WriteRefused
from stepstream.bus.wire import keys
from tests.promtool import MISSING, PROMTOOL, promtool
from tests.support import Lab, eventually
from tests.system.test_worker_metrics import asked, watched

ROOT = Path(__file__).parents[2]
BOARD = ROOT / "docs/monitoring/grafana.json"
ALERTS = ROOT / "docs/monitoring/alerts.yml"
TARGET = {"instance", "job"}
"""Labels that Prometheus gives to all that it scrapes."""
WORDS = {
    "abs", "absent", "and", "bool", "by", "clamp_min", "count", "delta", "group_left", "histogram_quantile", "increase",
    "ignoring", "max", "min", "offset", "on", "or", "rate", "sum", "unless", "vector", "without",
}  # fmt: skip
"""What PromQL has of its own, as far as it is used."""


class Series(NamedTuple):
    name: str
    labels: dict[str, str]
    value: float


def told(*texts: str) -> list[Series]:
    return [Series(one.name, {**one.labels, "instance": "here", "job": "stepstream"}, one.value)
            for text in texts for each in families(text) for one in each.samples]  # fmt: skip


SELECTOR = re.compile(r"([a-zA-Z_:][\w:]*)(\{[^}]*\})?")
MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
GROUPING = re.compile(r"\b(?:by|on|without|ignoring)\s*\(([^)]*)\)")


def selected(expression: str, real: list[Series]) -> Iterator[Series]:
    """Return the series that an expression reads; AssertionError for a metric or a label that there is not."""
    there: dict[str, set[str]] = {}
    for one in real:
        there.setdefault(one.name, set()).update(one.labels)
    names, grouped = set[str](), {label.strip() for found in GROUPING.findall(expression) for label in found.split(",")}
    plain = re.sub(r"\[[^\]]*\]|\boffset \w+", "", GROUPING.sub("", expression))
    for name, braces in SELECTOR.findall(plain):
        if name in WORDS or re.fullmatch(r"e\d+", name):
            continue
        assert name in there, f"there is no metric {name}: {expression}"
        names.add(name)
        matchers = MATCHER.findall(braces)
        unknown = {label for label, _, _ in matchers} - there[name]
        assert not unknown, f"{name} has no label {unknown}: {expression}"
        for one in real:
            if one.name == name and all(fits(one.labels[label], how, value) for label, how, value in matchers):
                yield one
    assert names, expression
    unknown = grouped - set().union(*(there[name] for name in names))
    assert not unknown, f"no metric has the labels {unknown}: {expression}"


def fits(text: str, how: str, value: str) -> bool:
    value = ".*" if value.startswith("$") else value
    is_it = bool(re.fullmatch(value, text)) if "~" in how else text == value
    return is_it != how.startswith("!")


def panels() -> list[dict[str, Any]]:
    return [one for one in json.loads(BOARD.read_text())["panels"] if one["type"] != "row"]


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


@pytest.fixture
async def real(lab: Lab, http: TestClient, store: redis.Redis) -> list[Series]:
    """What a site and a worker tell after work of each kind: what came well and what failed, was dropped, was refused."""
    tries: list[int] = []

    def shaky() -> None:
        tries.append(1)
        if len(tries) == 1:
            raise ValueError

    @lab.app.function("f", on=["a", Cron("0 4 * * *")], retries=0)
    async def f(ctx: Context[dict], step: Step) -> None:
        await step.run("shaky", shaky, retries=Retry(1, backoff=0.01))

    @lab.app.function("g", on="b", retries=0)
    async def g(ctx: Context[dict], step: Step) -> None:
        raise LookupError

    async with watched(lab) as seen:
        await lab.send("a")
        await lab.send("b")
        await lab.ended(2)
        store.xadd(keys.queue("test-f"), {"turn": "no number"})
        signals = seen.worker.signals
        signals.write_refused.send(WriteRefused("test-f", "r", "over"))
        for name in ("dead_letters_total", "chore_seconds_count", "runs_ended_total", "lease_renewals_total"):
            await eventually(lambda name=name: has(seen.url, name), name)
        lab.notices.clear()
        return told((await asked(f"{seen.url}/metrics"))[1], http.get("/metrics").text)


async def has(url: str, name: str) -> bool:
    return f"\nstepstream_worker_{name}" in (await asked(f"{url}/metrics"))[1]


RARE = {
    "stepstream_worker_entries_not_started_total": {"function", "why"},
    "stepstream_worker_reclaimed_entries_total": {"function", "origin"},
    "stepstream_worker_redis_errors_total": {"state"},
}
"""Series that begin with a trouble: their labels, as tests of each trouble see them (test_worker_metrics.py)."""


def with_rare(real: list[Series]) -> list[Series]:
    return real + [Series(name, dict.fromkeys({*labels, *TARGET}, "x"), 0) for name, labels in RARE.items()]


async def test_the_board_and_the_rules_ask_for_metrics_and_labels_that_there_are(real: list[Series]) -> None:
    asks = [target["expr"] for panel in panels() for target in panel["targets"]] + [rule["expr"] for rule in rules()]
    assert len(asks) > 60
    for expression in asks:
        assert list(selected(expression, with_rare(real))), f"nothing is selected by {expression}"
    for variable in json.loads(BOARD.read_text())["templating"]["list"][1:]:
        asked_for = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"])
        assert asked_for
        assert any(one.name == asked_for[1] and asked_for[2] in one.labels for one in real)
    for rule in rules():
        words = f"{rule['annotations']['summary']} {rule['annotations']['description']}"
        labels = set().union(*(one.labels for one in selected(rule["expr"], with_rare(real))))
        assert set(re.findall(r"\$labels\.(\w+)", words)) <= labels, rule["alert"]


async def test_what_does_not_exist_is_noticed(real: list[Series]) -> None:
    for wrong in ("stepstream_runns", 'stepstream_runs{state="queued"}', "sum by (step) (stepstream_runs)"):
        with pytest.raises(AssertionError, match=r"there is no metric|has no label|no metric has the labels"):
            list(selected(wrong, real))


def test_the_board_is_one_that_grafana_imports() -> None:
    board = json.loads(BOARD.read_text())
    assert (board["schemaVersion"], board["uid"], board["templating"]["list"][0]["type"]) == (
        42,
        "stepstream",
        "datasource",
    )
    ids = [one["id"] for one in board["panels"]]
    assert len(ids) == len(set(ids))
    source = {"type": "prometheus", "uid": "${datasource}"}
    for panel in panels():
        assert panel["datasource"] == source
        assert all(target["datasource"] == source for target in panel["targets"])
        assert panel["title"]
        assert panel["description"]
    taken: set[tuple[int, int]] = set()
    for at in (one["gridPos"] for one in board["panels"]):
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, "no two panels stand at one place"
        assert at["x"] + at["w"] <= 24
        taken |= cells


async def test_each_panel_of_the_board_shows_something(real: list[Series]) -> None:
    """The board as it stands, filled with what was told: build/board.html, to be looked at."""
    boxes = ""
    for panel in json.loads(BOARD.read_text())["panels"]:
        at = panel["gridPos"]
        place = f"left:{at['x'] * 50}px;top:{at['y'] * 34}px;width:{at['w'] * 50 - 8}px;height:{at['h'] * 34 - 8}px"
        lines = [
            line for target in panel.get("targets", []) for line in shown(target, list(selected(target["expr"], with_rare(real))))
        ]  # fmt: skip
        assert lines or panel["type"] == "row", panel["title"]
        boxes += f'<section style="{place}"><b>{html.escape(panel["title"])}</b>{"".join(lines[:9])}</section>'
    (ROOT / "build").mkdir(exist_ok=True)
    page = f"<meta charset=utf-8><title>Board</title><style>{STYLE}</style><main>{boxes}</main>"
    (ROOT / "build/board.html").write_text(page)


STYLE = """main{position:relative;width:1200px;height:2900px;font:11px sans-serif}section{position:absolute;overflow:hidden;
border:1px solid #999;border-radius:3px;padding:2px 4px;box-sizing:border-box}b{display:block}div{display:flex;gap:4px}
i{flex:none;width:60px;height:8px;background:#ddd}i u{display:block;height:8px;background:#0a8}"""


def shown(target: dict[str, Any], found: list[Series]) -> list[str]:
    """Return a bar for each series that a target reads, named as its legend says."""
    most = max((one.value for one in found), default=0) or 1
    lines: list[str] = []
    for one in found:
        legend = "" if target["legendFormat"] == "__auto" else target["legendFormat"]
        name = re.sub(r"\{\{(\w+)\}\}", lambda label, one=one: one.labels.get(label[1], ""), legend) or one.name
        bar = f'<i><u style="width:{max(0, one.value) / most * 60:.0f}px"></u></i>'
        lines.append(f"<div>{bar}{html.escape(name)} {one.value:g}</div>")
    return lines


def series(name: str, values: str, **labels: str) -> dict[str, str]:
    text = ",".join(f'{label}="{value}"' for label, value in labels.items())
    return {"series": f"{name}{{{text}}}", "values": values}


F = {"function": "shop-ship"}
FIRES: dict[str, list[dict[str, str]]] = {
    "StepstreamFunctionFails": [series("stepstream_last_hour_runs", "5x60", **F, what="failed"),
                                series("stepstream_last_hour_runs", "10x60", **F, what="completed")],
    "StepstreamWaitsLong": [series("stepstream_oldest_queued_seconds", "900x60", **F)],
    "StepstreamLineTooLong": [series("stepstream_unread_events", "600x60", **F),
                              series("stepstream_runs", "600x60", **F, status="queued")],
    "StepstreamNoWorker": [series("stepstream_workers", "0x60", **F), series("stepstream_unread_events", "1x60", **F),
                           series("stepstream_runs", "0x60", **F, status="queued")],
    "StepstreamScheduleMissed": [series("stepstream_missed_ticks", "1x60", **F)],
    "StepstreamDeadLetters": [series("stepstream_worker_dead_letters_total", "_x20 1x40", **F, why="worker_crash")],
    "StepstreamSiteDown": [],
    "StepstreamRedisDown": [series("stepstream_redis_up", "0x60", instance="a"),
                            series("stepstream_redis_up", "0x60", instance="b")],
    "StepstreamStoreNotRead": [series("stepstream_store_read", "0x60"), series("stepstream_redis_up", "1x60")],
    "StepstreamRedisNearlyFull": [series("stepstream_redis_memory_bytes", "90x60"),
                                  series("stepstream_redis_memory_most_bytes", "100x60")],
    "StepstreamRedisEvicts": [series("stepstream_redis_evicted_keys", "1x60")],
    "StepstreamRedisNotWritten": [series("stepstream_redis_written", "0x60")],
    "StepstreamRedisKeepsNothing": [series("stepstream_redis_aof", "0x60")],
    "StepstreamReplicaBehind": [series("stepstream_redis_replica_behind_bytes", "20000000x60")],
    "StepstreamLeasesLost": [series("stepstream_worker_leases_lost_total", "0x20 1x40", instance="w")],
    "StepstreamLeasesLate": [
        series("stepstream_worker_lease_lateness_seconds_bucket", f"0+{grows}x60", instance="w", le=le)
        for le, grows in (("1", 0), ("2.5", 9), ("+Inf", 9))
    ],
    "StepstreamLoopBlocked": [series("stepstream_worker_loop_still_seconds", "0x10 7x50", instance="w")],
    "StepstreamWorkerNotReady": [series("stepstream_worker_ready", "0x60", instance="w")],
    "StepstreamFunctionsLeftOut": [series("stepstream_functions_left_out", "2x60")],
}  # fmt: skip
"""What makes each rule fire within half an hour, a value a minute."""
QUIET = {
    "StepstreamFunctionFails": [series("stepstream_last_hour_runs", "5x60", **F, what="failed"),
                                series("stepstream_last_hour_runs", "100x60", **F, what="completed")],
    "StepstreamWaitsLong": [*FIRES["StepstreamWaitsLong"], series("stepstream_paused", "1x60", **F)],
    "StepstreamLineTooLong": [*FIRES["StepstreamLineTooLong"], series("stepstream_paused", "1x60", **F)],
    "StepstreamNoWorker": [*FIRES["StepstreamNoWorker"][:1], series("stepstream_unread_events", "0x60", **F),
                           series("stepstream_runs", "0x60", **F, status="queued")],
    "StepstreamDeadLetters": [series("stepstream_worker_dead_letters_total", "1x60", **F, why="worker_crash")],
    "StepstreamSiteDown": [series("stepstream_redis_up", "0x60")],
    "StepstreamRedisDown": [series("stepstream_redis_up", "0x60", instance="a"),
                            series("stepstream_redis_up", "1x60", instance="b")],
    "StepstreamStoreNotRead": [series("stepstream_store_read", "0x60"), series("stepstream_redis_up", "0x60")],
    "StepstreamRedisNearlyFull": [series("stepstream_redis_memory_bytes", "90x60"),
                                  series("stepstream_redis_memory_most_bytes", "0x60")],
}  # fmt: skip
"""What is near to it, and does not."""


def test_each_rule_has_a_test_of_its_own() -> None:
    assert {rule["alert"] for rule in rules()} == FIRES.keys()
    assert QUIET.keys() <= FIRES.keys()


@pytest.mark.skipif(PROMTOOL is None, reason=MISSING)
def test_promtool_sees_each_rule_fire_and_be_quiet(tmp_path: Path) -> None:
    promtool("check", "rules", str(ALERTS))
    of = {rule["alert"]: rule for rule in rules()}

    def case(name: str, given: list[dict[str, str]], *, fires: bool) -> dict[str, Any]:
        asks = [{"expr": f'count(ALERTS{{alertname="{name}", alertstate="firing"}}) or vector(0)', "eval_time": "30m",
                 "exp_samples": [{"labels": "{}", "value": int(fires)}]}]  # fmt: skip
        return {"name": f"{name} {'fires' if fires else 'is quiet'}", "interval": "1m", "input_series": given,
                "promql_expr_test": asks}  # fmt: skip

    tests = [case(name, given, fires=True) for name, given in FIRES.items()]
    tests += [case(name, given, fires=False) for name, given in QUIET.items()]
    assert of.keys() == FIRES.keys()
    made = tmp_path / "tests.yml"  # JSON is YAML
    made.write_text(json.dumps({"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": tests}))
    promtool("test", "rules", str(made))
