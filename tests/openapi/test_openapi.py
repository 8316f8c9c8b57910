"""What GET /openapi.json says is true: schemathesis asks a site that works, and looks at each answer."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.openapi.environment import COMMAND, HOME
from tests.patience import PATIENT_S
from tests.support import free_port, until
from tests.system.test_dev import ask, start

SHOP = """
from stepstream import Bus

app = Bus("shop")


@app.function("ship", on="shop/paid")
async def ship(ctx, step):
    return await step.run("label", lambda: {"cents": 1})


@app.function("refund", on="shop/returned", retries=0)
async def refund(ctx, step):
    raise ValueError("no")
"""
CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance",
    "negative_data_rejection",
)  # fmt: skip
CONFIG = """
[[operations]]
include-path-regex = "^/v1/runs/"
parameters = {{ "path.id" = "{run}" }}
[[operations]]
include-path-regex = "^/v1/functions/"
parameters = {{ "path.id" = "shop-ship" }}
[[operations]]
include-path-regex = "^/invoke/"
parameters = {{ "path.function" = "shop-ship" }}
[[operations]]
include-path-regex = "^/v1/events/"
parameters = {{ "path.id" = "{event}" }}
"""
"""With what there is, half of what is asked is answered with more than a refusal."""


@pytest.mark.api
def test_answers_are_as_openapi_says_and_none_is_500(tmp_path: Path) -> None:
    assert COMMAND.exists(), f"schemathesis is not in {HOME}: make api"
    (tmp_path / "shop.py").write_text(SHOP)
    url = f"http://127.0.0.1:{(port := free_port())}"
    dev = start(tmp_path, "shop:app", port)
    try:
        until(lambda: ask(f"{url}/ready")[0] == 200, "the site is ready")
        sent = [ask(f"{url}/e/k", json.dumps({"name": name}).encode()) for name in ("shop/paid", "shop/returned")]
        event = json.loads(sent[0][1])["ids"][0]
        failed = until(lambda: json.loads(ask(f"{url}/v1/runs?status=failed")[1])["data"], "a run has failed")
        config = tmp_path / "schemathesis.toml"
        config.write_text(CONFIG.format(run=failed[0]["id"], event=event))
        asked = subprocess.run(
            [
                str(COMMAND), "--config-file", str(config), "run", f"{url}/openapi.json", "--checks", ",".join(CHECKS),
                # a stream of events has no end; the worker that is told to drain does end, and until the next is up
                # GET /ready answers 503
                "--exclude-path-regex", "^/v1/live|/drain$",
                # a boundary of each parameter and field, and three requests of each route by chance; by one worker: in
                # its threads Python 3.11 counts the depth of one syntax tree for another's
                "--phases", "coverage,fuzzing", "--max-examples", "3", "--seed", "1", "--workers", "1", "--no-color",
                "--continue-on-failure", "--suppress-health-check", "all", "--warnings", "off",
            ],
            capture_output=True, text=True, timeout=3 * PATIENT_S, cwd=tmp_path, check=False,
        )  # fmt: skip
        assert asked.returncode == 0, asked.stdout[-8_000:] + asked.stderr[-2_000:]
        print(asked.stdout[asked.stdout.index("SUMMARY") :])
        assert ask(f"{url}/ready")[0] == 200
    finally:
        dev.terminate()
        dev.wait(PATIENT_S)
