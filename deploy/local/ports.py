"""Loopback ports that stay ours for a whole run."""

import os
import random
import socket
from pathlib import Path

from deploy.local.errors import CannotStart

LOOPBACK = "127.0.0.1"

_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST = 20_000
_EPHEMERAL_FROM = 32_768

VARIABLE = "QALQAN_PORTS"
"""Environment variable: the ports to take from, `20000-29999`. Two runners that start at once, each with its own, never
choose the same."""


def free_ports(count: int) -> list[int]:
    """`count` different loopback ports that nobody listens on. Raises CannotStart when none can be found.

    Drawn by the system, so that two runs with one seed do not draw the same. They lie below the ephemeral
    range: a port inside it may be taken by any outgoing connection while its server is down for a moment, and
    a client that keeps trying to reconnect can even connect to itself there.
    """
    ports = _ports()
    found: list[int] = []
    for port in random.SystemRandom().sample(ports, min(1_000, len(ports))):
        if len(found) == count:
            break
        with socket.socket() as probe:
            # As servers do, so that connections of a former run in TIME_WAIT do not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
        found.append(port)
    if len(found) < count:
        raise CannotStart(
            f"No free port was found on {LOOPBACK} from {ports.start} to {ports.stop - 1}: stop other servers, or let "
            "programs listen on the loopback interface."
        )
    return found


def _ports() -> range:
    if given := os.environ.get(VARIABLE):
        first, _, last = given.partition("-")
        if first.isdecimal() and last.isdecimal() and 1024 <= int(first) <= int(last) < 65_536:
            return range(int(first), int(last) + 1)
        raise CannotStart(f"{VARIABLE} is {given!r}: it should be a first and a last port, such as 20000-29999.")
    below = int(_RANGE.read_text().split()[0]) if _RANGE.exists() else _EPHEMERAL_FROM
    return range(_LOWEST, below if below > _LOWEST + 1_000 else 65_536)
