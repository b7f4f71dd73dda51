"""Where a webhook may go: never into a private network (server-side request forgery), whatever a name resolves to.

A name is resolved, each address is checked, and the connection goes to an address that was checked: what the name
resolves to a moment later does not matter (DNS rebinding). TLS still checks the name.
"""

import asyncio
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit

from services.notify.settings import DeliverySettings

URL_LIMIT = 2_000
_RESOLVING_AT_ONCE = 32

# IPv6 that carries IPv4 inside: a translator on the way would turn it into whatever is in there.
_CARRIES_IPV4 = tuple(
    ip_network(text)
    for text in (
        "::/96",  # IPv4-compatible, and the loopback
        "::ffff:0:0/96",  # IPv4-mapped
        "::ffff:0:0:0/96",  # SIIT, RFC 2765
        "64:ff9b::/96",  # NAT64, RFC 6052
        "64:ff9b:1::/48",  # NAT64 of one's own network, RFC 8215
        "2001::/32",  # Teredo
        "2002::/16",  # 6to4
    )
)


class NotAllowed(ValueError):
    """A webhook may not go there; str() says why, for a person."""


class Guard:
    """What may be reached, by the settings."""

    def __init__(self, settings: DeliverySettings) -> None:
        self._settings = settings
        # A pool of our own: a name server that does not answer holds up no other part of the service.
        self._resolvers = ThreadPoolExecutor(_RESOLVING_AT_ONCE, thread_name_prefix="resolve")

    def close(self) -> None:
        """Lets go of threads."""
        self._resolvers.shutdown(wait=False, cancel_futures=True)

    def check_url(self, url: str) -> tuple[str, int]:
        """Host and port of an address a webhook may have, as far as it can be seen in its text. NotAllowed."""
        if len(url) > URL_LIMIT:
            raise NotAllowed(f"the URL is longer than {URL_LIMIT} characters")
        if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
            raise NotAllowed("the URL has characters that must be percent-encoded (a name beyond ASCII: as xn--...)")
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise NotAllowed(f"not a URL: {error}") from None
        if parts.scheme not in ("https", "http"):
            raise NotAllowed("the URL must begin with https://")
        if parts.scheme == "http" and not self._settings.http:
            raise NotAllowed("the URL must begin with https://: here nothing goes out unencrypted")
        if "@" in parts.netloc:
            raise NotAllowed("the URL must not contain a user or a password: the signature says who sends")
        if parts.fragment:
            raise NotAllowed("the URL must not contain a fragment (#)")
        if not host or "%" in host:
            raise NotAllowed("the URL names no host")
        if port == 0:
            raise NotAllowed("there is no port 0")
        return host, port or (443 if parts.scheme == "https" else 80)

    async def addresses(self, host: str, port: int) -> Sequence[str]:
        """The addresses of a host that may be reached. NotAllowed: it has none; OSError: it cannot be resolved."""
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._resolvers, _resolve, host, port)
        allowed = [text for text in found if self._allows(ip_address(text))]
        if not allowed:
            raise NotAllowed(f"{host} is no public address ({', '.join(found[:3])})")
        return allowed

    def _allows(self, address: IPv4Address | IPv6Address) -> bool:
        if any(address in network for network in self._settings.allow):
            return True
        if any(address in network for network in _CARRIES_IPV4):
            return False
        return address.is_global and not address.is_multicast and not address.is_reserved


def _resolve(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    # A scope (fe80::1%eth0) is cut off: link-local is refused anyway.
    return list(dict.fromkeys(str(address[0]).split("%")[0] for *_, address in found))
