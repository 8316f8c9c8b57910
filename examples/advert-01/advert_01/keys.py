"""The keys, from the environment. In development both may be absent; in production that is an error at the start."""

import os
from collections.abc import Mapping

import msgspec

from stepstream import ConfigError


class Keys(msgspec.Struct, frozen=True):
    """`event`: who may publish over HTTP, as /e/KEY; `signing`: what webhooks are signed with. None: nothing asks."""

    event: str | None
    signing: str | None


def keys_of(environ: Mapping[str, str] = os.environ) -> Keys:
    """Return the keys; ConfigError for one that production needs and has not."""
    found = Keys(environ.get("BUS_EVENT_KEYS"), environ.get("ADVERT_SIGNING_KEY"))
    if environ.get("ADVERT_ENV") == "production":
        for variable, value in (("BUS_EVENT_KEYS", found.event), ("ADVERT_SIGNING_KEY", found.signing)):
            if not value:
                raise ConfigError(f"{variable} is not set; ADVERT_ENV=production needs both keys, development none")
    return found
