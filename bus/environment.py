"""Environment: what else is read of it: what commands that a process runs are given, and what is of OpenTelemetry."""

import os
import re
from collections.abc import Mapping


def environment_with(more: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment, with more in it: for a command that it runs."""
    return {**os.environ, **more}


_PLAIN = re.compile(r"PATH|HOME|USER|LOGNAME|SHELL|LANG|LC_\w+|TZ|TMPDIR|SSL_CERT_(FILE|DIR)")


def plain_environment() -> dict[str, str]:
    """Return what of this process's environment holds no secret: for a command that is none of the application's."""
    return {name: value for name, value in os.environ.items() if _PLAIN.fullmatch(name)}


def traceparent() -> str:
    """Return the trace that who has begun this command is in, as OpenTelemetry hands it to commands; or nothing."""
    return os.environ.get("TRACEPARENT", "")


def s3_endpoint() -> str:
    """Return the address at which S3 is asked, as AWS's tools read it; empty: AWS, in the region of AWS_REGION."""
    names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
    return next((os.environ[name] for name in names if os.environ.get(name)), "")


def of_otel() -> dict[str, str]:
    """Return the variables of OpenTelemetry: its SDK reads most of them itself, and they keep its names."""
    return {name: text for name, text in os.environ.items() if name.startswith("OTEL_")}
