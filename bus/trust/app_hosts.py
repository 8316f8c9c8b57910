"""App hosts: where applications behind HTTP may be called, so that a registered URL leads nowhere else (SSRF)."""

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from stepstream.bus.errors import ConfigError

_NAME = re.compile(r"(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*")
_NAT64 = IPv6Network("64:ff9b::/96")
_METADATA = frozenset(
    map(
        ip_address,
        (
            "100.100.100.200",  # Alibaba
            "168.63.129.16",  # Azure
            "192.0.0.192",  # Oracle
            "fd00:ec2::254",  # AWS
            "fd20:ce::254",  # Google
        ),
    )
)
"""Where clouds tell a machine its secrets, besides 169.254.169.254, which is link-local."""

_IN_THE_APP = "a bus with keys does not call that for an app: let the app call it, in step.run"

_Address = IPv4Address | IPv6Address


class AppHosts:
    """The bounds of BUS_APP_HOSTS. `named` are host names, `*.suffix`, addresses and networks; empty: see `refusal`.

    With None it is for requests that an application leaves to the bus, which that setting is not about.
    """

    def __init__(self, named: Sequence[str] | None) -> None:
        self._is_for_apps = named is not None
        self._names: set[str] = set()
        self._networks: list[IPv4Network | IPv6Network] = []
        for one in named or ():
            plain = one.strip().lower().removeprefix("[").removesuffix("]")
            try:
                self._networks.append(ip_network(plain, strict=False))
            except ValueError:
                if not _NAME.fullmatch(plain) or "/" in one:
                    raise ConfigError(
                        f"BUS_APP_HOSTS: {one!r} is no host: write shop.example, *.shop.example, 10.1.2.3 or "
                        "10.0.0.0/8, without http:// and without a port"
                    ) from None
                self._names.add(plain)

    def refusal(self, host: str, address: str) -> str:
        """Return why a host that has this address may not be called; empty when it may.

        Link-local, metadata, multicast and unspecified addresses never may. This machine itself may where it is named:
        `localhost`, or a network it is in. Others may that are named, by name or address, or where nothing is.
        """
        found = _plain(ip_address(address))
        if found.is_link_local or found.is_multicast or found.is_unspecified or found in _METADATA:
            return f"{_shown(host, address)} is never called: link-local, metadata and multicast addresses are no app's"
        is_listed = any(found in network for network in self._networks)
        if found.is_loopback:
            if is_listed or "localhost" in self._names:
                return ""
            way = f"{_way('localhost')} if apps run here" if self._is_for_apps else _IN_THE_APP
            return f"{_shown(host, address)} is this machine; {way}"
        if is_listed or self._is_named(host) or not (self._names or self._networks):
            return ""
        return f"{_shown(host, address)} is not among BUS_APP_HOSTS; {_way(host)}"

    def refusal_of_name(self, host: str) -> str:
        """Return why a host may not be called, whatever addresses it has; empty when those decide, or when it may."""
        if self._networks or not self._names or self._is_named(host) or _is_address(host):
            return ""
        return f"{host!r} is not among BUS_APP_HOSTS; {_way(host)}"

    def refusal_of_address(self, host: str) -> str:
        """Return why a host that is an address may not be called; empty when it may, or is a name."""
        return self.refusal(host, host) if _is_address(host) else ""

    def _is_named(self, host: str) -> bool:
        name = host.lower().removesuffix(".")
        if name in self._names:
            return True
        return any(one.startswith("*.") and name.endswith(one[1:]) for one in self._names)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _plain(address: _Address) -> _Address:
    """Return the IPv4 address that an IPv6 one leads to, if that is what it is for."""
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in _NAT64:
            inner = IPv4Address(int(address) & 0xFFFFFFFF)
        return inner or address
    return address


def _shown(host: str, address: str) -> str:
    return repr(host) if host == address else f"{host!r} ({address})"


def _way(host: str) -> str:
    return f"add {host} to BUS_APP_HOSTS of the workers and the site"
