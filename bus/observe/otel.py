"""OpenTelemetry: who makes spans in this process, if anybody does. Where nothing asks for it nothing is loaded."""

import contextlib
import importlib.util
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any

from stepstream.bus.errors import ConfigError
from stepstream.bus.observe.tracing import Tracing
from stepstream.bus.trust.redaction import DEFAULT, Redaction

_ASKING = ("OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
"""What asks for spans, by OpenTelemetry's own words; `none` as the exporter asks for none."""
_FLUSH_MS = 5_000
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_EXPORTERS = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}
"""Of `otlp`, by protocol: as what a package announces it."""


def tracing_of(
    provider: Any | None = None, redact: Sequence[str] = DEFAULT, fields: Iterable[str] = ()
) -> Tracing | None:
    """Return who makes spans by a tracer provider; by that of the process where none is given, if that has one.

    Errors are told without what the patterns of `redact` hide, and the fields that types of events name.

    ConfigError for a given one that is not of OpenTelemetry's SDK.
    """
    if provider is None:
        provider = _of_process()
        if provider is None:
            return None
    _require("a tracer provider is given")
    from stepstream.bus.observe.spans import OtelTracing

    return OtelTracing(provider, Redaction(redact, within=sorted(set(fields))))


@contextlib.contextmanager
def exporting(service: str, environ: Mapping[str, str]) -> Generator[None]:
    """Make the process export the spans that its environment asks for, and what there is at the end, within 5 s.

    An application that has given the process a tracer provider keeps that. `service` is what it is called where no
    variable says. ConfigError when the extra is missing, or an exporter.
    """
    asking = next((name for name in _ASKING if environ.get(name)), None)
    names = [name.strip() for name in (environ.get(_ASKING[0]) or "otlp").split(",")]
    is_off = environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or names == ["none"]
    if asking is not None and not is_off and _of_process() is None:
        _require(f"{asking} is set")
        _set_provider(service, environ, [_exporter(name, environ) for name in names])
    try:
        yield
    finally:
        _flush()


def _set_provider(service: str, environ: Mapping[str, str], exporters: Sequence[Callable[[], Any]]) -> None:
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.trace import set_tracer_provider

    is_named = environ.get("OTEL_SERVICE_NAME") or "service.name=" in environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    provider = TracerProvider(resource=Resource.create({} if is_named else {SERVICE_NAME: service}))
    for exporter in exporters:
        provider.add_span_processor(BatchSpanProcessor(exporter()))
    set_tracer_provider(provider)


def _flush() -> None:
    """Export what is made and not exported: in a thread, for exporters keep to time-outs of their own."""
    provider = _of_process()
    if provider is not None:
        flushing = threading.Thread(target=provider.force_flush, args=(_FLUSH_MS,), name="bus-spans", daemon=True)
        flushing.start()
        flushing.join(_FLUSH_MS / 1_000)


def _of_process() -> Any | None:
    """Return the process's own tracer provider; None while there is none, or it makes no spans."""
    api, sdk = sys.modules.get("opentelemetry.trace"), sys.modules.get("opentelemetry.sdk.trace")
    if api is None or sdk is None:
        return None
    provider = api.get_tracer_provider()
    is_able = isinstance(provider, sdk.TracerProvider) and isinstance(provider.get_tracer(__name__), sdk.Tracer)
    return provider if is_able else None


def _require(why: str) -> None:
    if importlib.util.find_spec("opentelemetry") is None or importlib.util.find_spec("opentelemetry.sdk") is None:
        raise ConfigError(
            f"{why}, and OpenTelemetry's SDK is not installed: pip install 'stepstream[otel]'; "
            "OTEL_TRACES_EXPORTER=none makes no spans"
        )


def _exporter(name: str, environ: Mapping[str, str]) -> Any:
    """Return the class of an exporter by the name that OpenTelemetry has for it."""
    announced = name
    if name == "otlp":
        protocol = next((environ[one] for one in _PROTOCOLS if environ.get(one)), "http/protobuf")
        announced = _EXPORTERS.get(protocol, protocol)
        name = f"otlp over {protocol}"
    found = entry_points(group="opentelemetry_traces_exporter", name=announced)
    if not found:
        has = sorted(one.name for one in entry_points(group="opentelemetry_traces_exporter"))
        raise ConfigError(
            f"OTEL_TRACES_EXPORTER asks for {name!r}, which no installed package has; there are {', '.join(has)}. "
            "stepstream[otel] has otlp over http/protobuf"
        )
    return next(iter(found)).load()
