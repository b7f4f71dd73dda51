"""The chain of certificates of one partition of `decisions`."""

from collections.abc import Iterable, Mapping
from typing import Any

from qalqan import jsontext
from qalqan.certificate.record import digest
from qalqan.complaints import shown


def verify_chain(certificates: Iterable[Mapping[str, Any]]) -> list[str]:
    """Why these certificates, in order, are no unbroken part of one chain; empty: they are.

    Looks at the links alone (at each certificate by itself: `verify_certificate`): one chain, serials without
    a gap, each naming the one before, no ballot closed twice. The first may have any serial.
    """
    reasons: list[str] = []
    before: tuple[object, object, str] | None = None
    closed: dict[str, object] = {}
    for number, certificate in enumerate(certificates, start=1):
        where = f"certificate {number}"
        try:
            own, ballot = digest(certificate), jsontext.digest_of(certificate.get("ballot"))
        except (ValueError, TypeError, AttributeError, RecursionError):
            reasons.append(f"{where}: not JSON data that has a digest")
            before = None
            continue
        chain, serial, previous = (certificate.get(name) for name in ("chain", "serial", "previous"))
        if type(serial) is not int or serial < 1 or not isinstance(chain, str):
            reasons.append(f"{where}: no chain, or no serial from 1")
        elif (serial == 1) != (previous is None):
            reasons.append(f"{where}: serial {serial}, but previous is {'null' if previous is None else 'not null'}")
        if before is not None:
            reasons += (f"{where}: {what}" for what in _broken(before, (chain, serial, previous)))
        if ballot in closed:
            reasons.append(f"{where}: closes the ballot that certificate {closed[ballot]} closed")
        closed.setdefault(ballot, number)
        before = (chain, serial, own)
    return reasons


def _broken(before: tuple[object, object, str], now: tuple[object, object, object]) -> list[str]:
    chain_before, serial_before, digest_before = before
    chain, serial, previous = now
    broken = []
    if chain != chain_before:
        broken.append(f"chain {shown(str(chain))}, after one of {shown(str(chain_before))}")
    if type(serial) is int and type(serial_before) is int and serial != serial_before + 1:
        broken.append(f"serial {serial} after {serial_before}")
    if previous != digest_before:
        broken.append("previous is not the digest of the certificate before")
    return broken
