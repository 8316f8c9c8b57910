"""Settings: the `BUS_…` variables of the environment, read once and checked together."""

import difflib
import os
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from stepstream.bus.alerts import destination, rules
from stepstream.bus.blobs.location import check_above, location
from stepstream.bus.errors import ConfigError
from stepstream.bus.process.dev_server import running_url
from stepstream.bus.process.failpoints import NAMES
from stepstream.bus.trust import key_texts, roles
from stepstream.bus.trust.app_hosts import AppHosts
from stepstream.bus.trust.rates import rates
from stepstream.bus.trust.redaction import DEFAULT, check_patterns
from stepstream.bus.values.address import address
from stepstream.bus.values.durations import in_words, milliseconds

# Names that Kubernetes injects for a Service called `bus`: never ours.
_INJECTED = re.compile(r"BUS_(SERVICE_HOST|SERVICE_PORT.*|PORT|PORT_\d+_.*)")
# No braces, which would move all keys to one slot; nothing that SCAN or an ACL reads as a pattern.
_PREFIX = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._:-]{0,62}[A-Za-z0-9])?")

PUBLISH_TIMEOUT_MS = 1_500
"""BUS_TIMEOUT of a process that only publishes, where it is not set: somebody waits for the answer."""

_DEFAULT_URL = "redis://127.0.0.1:6379/0"

LAST_PORT = 65_535
LEAST_KEEP_MS = 600_000
"""No run is forgotten within this long after its end."""
TRACE_ID = "{trace_id}"
"""What stands in BUS_TRACE_URL for the id of a trace."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How a process finds Redis and behaves. Defaults stand here and nowhere else."""

    redis_url: str = _DEFAULT_URL
    """`redis://user:password@host:port/db`, `rediss://` (TLS, verified; `?ssl_ca_certs=…`) or `unix:///path?db=0`.

    Parameters that are not taken are refused with the way out. Without it: the server of the `bus dev` of this folder.
    """
    is_given: bool = True
    """Whether somebody has said which server; otherwise it is that of the `bus dev` of this folder, or the default."""
    prefix: str = "bus"
    """What every key begins with: installations that share a Redis have one each.

    Up to 64 ASCII letters, digits and `. _ - :`, the first and the last a letter or digit.
    """
    lease_ms: int = 10_000
    """How long what a silent worker has in hand stays its own: at least 0.5 s, and not six times another worker's."""
    drain_ms: int = 25_000
    """How long a worker that was told to stop may finish what it has in hand: longer than your longest sync step."""
    stall_ms: int = 600_000
    """How long the event loop may be blocked before the leases are no longer renewed."""
    timeout_ms: int = 5_000
    """How long a command may go without a reply. A process that only publishes: 1.5 s, if it is not set."""
    publish_timeout_ms: int = PUBLISH_TIMEOUT_MS
    """How long who publishes waits for Redis before it hears that it is away: BUS_TIMEOUT, where that is set."""
    keep_ms: int = 7 * 86_400_000
    """How long an ended run is kept: at least 10 minutes, for its entry may be delivered again."""
    keep_runs: int = 100_000
    """How many ended runs are kept per function: so many failed ones, and so many others."""
    keep_events_ms: int = 3 * 86_400_000
    """How long events are kept, if every function has finished with them by then."""
    dedupe_ms: int = 86_400_000
    """How long a caller's event id is remembered."""
    event_keys: tuple[str, ...] = ()
    """Keys that `POST /e/{key}` accepts, separated by commas; empty: any key, or none at all in keys mode."""
    signing_key: str = ""
    """The key shared with applications behind HTTP, `signkey-<env>-<hex>`: it signs calls of them, and they show it.

    With it, BUS_API_TOKENS or BUS_SESSION_KEY the site is in keys mode: nothing is answered without a key.
    """
    signing_key_fallback: str = ""
    """The signing key before this one, while it is changed: it counts too."""
    api_tokens: tuple[str, ...] = ()
    """Tokens, separated by commas, that open the page and the API: `SECRET`, `ROLE:SECRET` or `ROLE@NAME:SECRET`.

    A role is read, operate or admin, which a token without one has; a name tells who has acted. A secret has at least
    16 characters; it is shown as `Authorization: Bearer SECRET`, or in a browser as the password, with any user name.
    """
    session_key: str = ""
    """The key that signs sessions, at least 32 characters: with it people log in to the page (`bus users add`).

    All sites have the same one; another one ends all sessions. With it the site is in keys mode.
    """
    app_hosts: tuple[str, ...] = ()
    """Where applications behind HTTP may be called in keys mode: host names, `*.shop.example`, addresses, `10.0.0.0/8`.

    Separated by commas; empty: anywhere but this machine (write `localhost`). Link-local and metadata addresses never.
    """
    allow_hosts: tuple[str, ...] = ()
    """Host names the site answers to, separated by commas, besides localhost and the address a request came in at."""
    max_connections: int = 2_000
    """How many may be connected to a site at once, at least 16: at the bound the longest idle one is closed."""
    rate_limit: tuple[str, ...] = ()
    """How often one address, and one event key, may ask `POST /e/{key}` of a site: `address=100/1s,key=5000/1m`.

    Either or both; empty: as often as they like. Each site counts for itself; what is too much is answered with 429.
    """
    apps: tuple[str, ...] = ()
    """URLs of applications behind HTTP that `bus serve` and `bus dev` ask to register, separated by commas."""
    public_url: str = ""
    """Where people reach the page, `https://bus.shop.example/path`: alerts link to it."""
    trace_url: str = ""
    """Where a run's trace is shown, `https://jaeger.example/trace/{trace_id}`: its page and `bus run` link to it."""
    alert_webhook: str = ""
    """Where alerts are sent: an address that gets a POST. Set it for workers and sites alike; it is not shown whole."""
    alert_command: str = ""
    """In place of a webhook a command, which gets alerts as JSON on its standard input: `/usr/local/bin/page-me`."""
    alert_format: str = "auto"
    """What the webhook is sent: `json`, `slack` (`{"text": …}`), or `auto`: slack for hooks.slack.com, else json."""
    alert_rules: tuple[str, ...] = ()
    """Thresholds that differ from the defaults: `waiting=10m,line=1000,failures=20%/1h,missed=off`."""
    alert_remind_ms: int = 4 * 3_600_000
    """How soon it is said again that an alert still fires; 0: never."""
    alert_every_ms: int = 15_000
    """How often the rules are looked at, by one process: at least 0.5 s."""
    metrics_port: int | None = None
    """The port at which `bus worker` answers `/metrics`, `/health` and `/ready`; 0: any free one, told in the log.

    Without it, at none. Of several `--processes` each has the next port.
    """
    metrics_host: str = "127.0.0.1"
    """The address of that port. It asks for no key, so another one is for networks where everyone may read metrics."""
    blobs_url: str = ""
    """Where large results are kept: `file:///var/lib/stepstream`, `s3://bucket/prefix`; empty: in Redis."""
    blobs_above: int = 262_144
    """With BUS_BLOBS_URL: results of more bytes are kept there, at least 4096; the same for workers and sites."""
    redact: tuple[str, ...] = DEFAULT
    """What is hidden of data from all but admins, and in logs: patterns of keys, as `*password,*token,iban`.

    They are compared with a key in small letters and with `_` between words; an empty text hides nothing.
    """
    codec: str = ""
    """What seals data and results before they are stored, and opens them: `module:attribute`, as `shop.keys:codec`.

    Set it for workers, sites and publishers alike. An object with `encode(data)` and `decode(data)`, bytes both.
    """
    log_format: str = "auto"
    """`json`, `text`, or `auto`: text on a terminal."""
    log_level: str = "info"
    """`debug` (tells of every run), `info`, `warning` or `error`."""
    failpoint: str = ""
    """For tests of the engine: the place where this process dies."""

    def __post_init__(self) -> None:
        """Raise ConfigError, naming the variable, for a value that cannot work."""
        if self.lease_ms < 500:
            raise ConfigError(f"BUS_LEASE must be at least 0.5 s, got {self.lease_ms} ms")
        if self.keep_ms < LEAST_KEEP_MS:
            raise ConfigError(
                f"BUS_KEEP must be at least 10 min, got {self.keep_ms} ms: "
                "within that time the entry of an ended run may be delivered again"
            )
        if self.timeout_ms < 100:
            raise ConfigError(f"BUS_TIMEOUT must be at least 0.1 s, got {self.timeout_ms} ms")
        if self.max_connections < 16:
            raise ConfigError(f"BUS_MAX_CONNECTIONS must be at least 16, got {self.max_connections}")
        if self.log_format not in {"auto", "json", "text"}:
            raise ConfigError(f"BUS_LOG_FORMAT must be auto, json or text, got {self.log_format!r}")
        if self.log_level not in {"debug", "info", "warning", "error"}:
            raise ConfigError(f"BUS_LOG_LEVEL must be debug, info, warning or error, got {self.log_level!r}")
        if self.metrics_port is not None and not 0 <= self.metrics_port <= LAST_PORT:
            raise ConfigError(f"BUS_METRICS_PORT must be a port, 0 to {LAST_PORT}, got {self.metrics_port}")
        address(self.redis_url)
        if not _PREFIX.fullmatch(self.prefix):
            raise ConfigError(
                f"BUS_PREFIX {self.prefix[:80]!r} is no prefix of keys: up to 64 ASCII letters, digits and . _ - : "
                "of which the first and the last are letters or digits"
            )
        if self.blobs_url:
            location(self.blobs_url)
        check_above(self.blobs_above)
        self._check_keys()
        self._check_alerts()
        if self.trace_url:
            destination.check_url(self.trace_url, "BUS_TRACE_URL")
            if TRACE_ID not in self.trace_url:
                raise ConfigError(f"BUS_TRACE_URL must say where the trace's id stands, {TRACE_ID}; it does not")
        name, _, passing = self.failpoint.partition(":")
        if self.failpoint and (name not in NAMES or not (passing or "1").isdecimal()):
            near = difflib.get_close_matches(name, NAMES, 1)
            raise ConfigError(f"BUS_FAILPOINT {self.failpoint!r} is not a failpoint{_hint(near)}")

    def _check_keys(self) -> None:
        """Raise ConfigError for keys that cannot work; it shows none."""
        key_texts.check_signing_keys(self.signing_key, self.signing_key_fallback)
        key_texts.check_session_key(self.session_key)
        key_texts.check_event_keys(self.event_keys)
        key_texts.check_tokens(self.tokens)
        AppHosts(self.app_hosts)
        rates(self.rate_limit, "BUS_RATE_LIMIT")
        check_patterns(self.redact)

    def _check_alerts(self) -> None:
        """Raise ConfigError for alerts that cannot be sent or understood; it shows no address and no command."""
        for variable, url in (("BUS_ALERT_WEBHOOK", self.alert_webhook), ("BUS_PUBLIC_URL", self.public_url)):
            if url:
                destination.check_url(url, variable)
        destination.words_of(self.alert_command, "BUS_ALERT_COMMAND")
        if self.alert_webhook and self.alert_command:
            raise ConfigError(
                "BUS_ALERT_WEBHOOK and BUS_ALERT_COMMAND are both set: take one away; a command can call a webhook, too"
            )
        if self.alert_format not in destination.FORMATS:
            raise ConfigError(f"BUS_ALERT_FORMAT must be auto, json or slack, got {self.alert_format!r}")
        if self.alert_every_ms < 500:
            raise ConfigError(f"BUS_ALERT_EVERY must be at least 0.5 s, got {self.alert_every_ms} ms")
        rules.thresholds(self.alert_rules, "BUS_ALERT_RULES")

    @property
    def has_alerts(self) -> bool:
        """Whether this process knows where alerts are sent: then it looks whether there are some."""
        return bool(self.alert_webhook or self.alert_command)

    @property
    def alerts_shown(self) -> str:
        """Where alerts are sent, for people; empty: nowhere."""
        if self.alert_webhook:
            return destination.shown(self.alert_webhook)
        words = destination.words_of(self.alert_command, "BUS_ALERT_COMMAND")
        return f"the command {words[0]}" if words else ""

    def __repr__(self) -> str:
        """Show the settings without the secrets: passwords, keys and tokens."""
        masked = self._masked()
        fields = (f"{name}={masked.get(name, getattr(self, name))!r}" for name in self.__struct_fields__)
        return f"Settings({', '.join(fields)})"

    def _masked(self) -> dict[str, str]:
        """Return what is shown in place of the values that are secret."""
        return {
            "redis_url": address(self.redis_url).shown,
            "event_keys": f"{len(self.event_keys)} keys",
            "signing_key": "set" if self.signing_key else "",
            "signing_key_fallback": "set" if self.signing_key_fallback else "",
            "session_key": "set" if self.session_key else "",
            "api_tokens": f"{len(self.api_tokens)} tokens",
            "alert_webhook": destination.shown(self.alert_webhook) if self.alert_webhook else "",
            "alert_command": self.alerts_shown if self.alert_command else "",
        }

    def shown(self) -> list[tuple[str, str]]:
        """Return each variable with its value as a person reads it, without the secrets."""
        masked, found = self._masked(), list[tuple[str, str]]()
        for variable, (field, kind) in VARIABLES.items():
            raw: Any = getattr(self, field)
            text = in_words(raw) if kind is float else ", ".join(raw) if kind is tuple else str(raw)
            text = "" if raw is None else text
            found.append((variable, masked.get(field, text)))
        return found

    @property
    def is_keyed(self) -> bool:
        """Whether this is keys mode: nothing is answered without a key, and applications are called with signatures."""
        return bool(self.signing_key or self.api_tokens or self.session_key)

    @property
    def tokens(self) -> tuple[roles.Token, ...]:
        """The API tokens with the role and the name of each."""
        return tuple(roles.token(text, n) for n, text in enumerate(self.api_tokens, 1))

    @property
    def signing_keys(self) -> tuple[str, ...]:
        """The signing keys that count, the one to sign with first; empty when there is none."""
        return tuple(key for key in (self.signing_key, self.signing_key_fallback) if key)

    @property
    def store(self) -> str:
        """Where all is kept, for people: the server's address, and the pattern of the keys."""
        return f"{address(self.redis_url).shown}, keys {self.prefix}:*"

    @property
    def renew_ms(self) -> int:
        """How often the lease is renewed: a fifth of it, at most every 2 s."""
        return min(2_000, self.lease_ms // 5)

    @property
    def sweep_ms(self) -> int:
        """How often expired consumers are looked for: every quarter of a lease, at most once a second."""
        return min(1_000, self.lease_ms // 4)


VARIABLES: dict[str, tuple[str, type]] = {
    "BUS_REDIS_URL": ("redis_url", str),
    "BUS_PREFIX": ("prefix", str),
    "BUS_LEASE": ("lease_ms", float),
    "BUS_DRAIN": ("drain_ms", float),
    "BUS_STALL": ("stall_ms", float),
    "BUS_TIMEOUT": ("timeout_ms", float),
    "BUS_KEEP": ("keep_ms", float),
    "BUS_KEEP_RUNS": ("keep_runs", int),
    "BUS_KEEP_EVENTS": ("keep_events_ms", float),
    "BUS_DEDUPE": ("dedupe_ms", float),
    "BUS_EVENT_KEYS": ("event_keys", tuple),
    "BUS_SIGNING_KEY": ("signing_key", str),
    "BUS_SIGNING_KEY_FALLBACK": ("signing_key_fallback", str),
    "BUS_API_TOKENS": ("api_tokens", tuple),
    "BUS_SESSION_KEY": ("session_key", str),
    "BUS_APP_HOSTS": ("app_hosts", tuple),
    "BUS_ALLOW_HOSTS": ("allow_hosts", tuple),
    "BUS_MAX_CONNECTIONS": ("max_connections", int),
    "BUS_RATE_LIMIT": ("rate_limit", tuple),
    "BUS_APPS": ("apps", tuple),
    "BUS_PUBLIC_URL": ("public_url", str),
    "BUS_ALERT_WEBHOOK": ("alert_webhook", str),
    "BUS_ALERT_COMMAND": ("alert_command", str),
    "BUS_ALERT_FORMAT": ("alert_format", str),
    "BUS_ALERT_RULES": ("alert_rules", tuple),
    "BUS_ALERT_REMIND": ("alert_remind_ms", float),
    "BUS_ALERT_EVERY": ("alert_every_ms", float),
    "BUS_METRICS_PORT": ("metrics_port", int),
    "BUS_METRICS_HOST": ("metrics_host", str),
    "BUS_BLOBS_URL": ("blobs_url", str),
    "BUS_BLOBS_ABOVE": ("blobs_above", int),
    "BUS_REDACT": ("redact", tuple),
    "BUS_CODEC": ("codec", str),
    "BUS_TRACE_URL": ("trace_url", str),
    "BUS_LOG_FORMAT": ("log_format", str),
    "BUS_LOG_LEVEL": ("log_level", str),
    "BUS_FAILPOINT": ("failpoint", str),
}
"""By name: the field it sets, and what its text is read as (float: a duration)."""


def _hint(near: list[str]) -> str:
    return f"; did you mean {near[0]}?" if near else ""


def _value(variable: str, text: str, kind: type) -> Any:
    if kind is float:
        try:
            duration: float | str = float(text)
        except ValueError:
            duration = text
        return milliseconds(duration, variable)
    if kind is int:
        if not text.isdecimal():
            raise ConfigError(f"{variable} must be a whole number, got {text!r}")
        return int(text)
    if kind is tuple:
        parts = tuple(part.strip() for part in text.split(",") if part.strip())
        if text and not parts:  # of keys, nothing would mean that any key will do
            raise ConfigError(
                f"{variable} has nothing but commas and blanks: write what it is to hold, or leave it empty"
            )
        return parts
    return text


def read(environ: Mapping[str, str] | None = None, *, strict: bool = False) -> tuple[Settings, list[str]]:
    """Return the settings of an environment (the process's own by default), and what a person should be told of them.

    Durations are seconds or text like "1m30s". With `strict`, an unknown BUS_… name is a ConfigError. Where the
    process's environment has no BUS_REDIS_URL, the server is that of the `bus dev` that runs in the working directory,
    or the nearest above it. This is the one place that chooses, and it asks nothing over the network.
    """
    source = os.environ if environ is None else environ
    known: dict[str, Any] = {}
    warnings: list[str] = []
    for variable, text in source.items():
        if not variable.startswith("BUS_") or _INJECTED.fullmatch(variable):
            continue
        if variable not in VARIABLES:
            near = difflib.get_close_matches(variable, VARIABLES, 1)
            message = f"{variable} is not a setting{_hint(near)}"
            if strict:
                raise ConfigError(message)
            warnings.append(message)
            continue
        field, kind = VARIABLES[variable]
        known[field] = _value(variable, text, kind)
    if "timeout_ms" in known:
        known["publish_timeout_ms"] = known["timeout_ms"]
    if environ is None and "redis_url" not in known:
        known |= {"redis_url": _found(), "is_given": False}
    return Settings(**known), warnings


def for_publisher() -> Settings:
    """Return the settings of a process that publishes and runs nothing: what they are, with a shorter BUS_TIMEOUT."""
    configured, _ = read()
    return msgspec.structs.replace(configured, timeout_ms=configured.publish_timeout_ms)


def has_moved(configured: Settings) -> bool:
    """Whether another server is meant by now: nobody has said which, and a `bus dev` has been started since."""
    return not configured.is_given and configured.redis_url != _found()


def _found() -> str:
    return running_url() or _DEFAULT_URL
