"""What asks for spans: OpenTelemetry's own variables; and what is said where they ask for what is not there."""

import subprocess
import sys
from typing import Any

import pytest

from stepstream.bus.errors import ConfigError
from stepstream.bus.observe.otel import exporting, tracing_of

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}


@pytest.mark.parametrize("environ", [ENDPOINT, {"OTEL_TRACES_EXPORTER": "otlp"}])
def test_spans_that_are_asked_for_without_the_extra_are_an_error_with_the_way_out(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    told = rf"{next(iter(environ))} is set, and OpenTelemetry's SDK is not installed: pip install 'stepstream\[otel\]'"
    with pytest.raises(ConfigError, match=told), exporting("shop", environ):
        pass


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"},
        {**ENDPOINT, "OTEL_SDK_DISABLED": "true"},
    ],
)
def test_nothing_is_made_where_nothing_asks(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with exporting("shop", environ):
        assert tracing_of() is None


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "'zipkin'"),
        ({**ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "'otlp over grpc'"),
        ({**ENDPOINT, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json"}, "'otlp over http/json'"),
    ],
)
def test_an_exporter_that_is_not_installed_is_named_beside_those_that_are(environ: dict[str, Any], named: str) -> None:
    told = rf"asks for {named}, which no installed package has; there are console, otlp_proto_http"
    with pytest.raises(ConfigError, match=told), exporting("shop", environ):
        pass


@pytest.mark.process
def test_a_worker_loads_nothing_that_makes_or_exports_spans_unless_it_is_asked_to() -> None:
    looked = "{'opentelemetry.sdk.trace', 'requests', 'stepstream.bus.observe.spans'} & set(sys.modules)"  # redis-py loads metrics
    code = f"import sys, stepstream.consumers.cli; print(list({looked}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
