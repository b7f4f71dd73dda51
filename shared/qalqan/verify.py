"""`qalqan verify FILE --root root.json`: whether a decision holds (CONTRACT "What services state")."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn

import typer

if TYPE_CHECKING:
    from qalqan.registry import Root

LARGEST_BYTES: Final = 16 * 1024 * 1024
"""A public topic takes records of 8 MiB; base64 makes a third more of them."""

_OF_A_CERTIFICATE = frozenset({"ballot", "outcome", "counted", "chain", "keys"})


class Unreadable(ValueError):
    """Neither a certificate nor an event that closes a ballot; the text says why."""


def verify(
    file: Annotated[Path, typer.Argument(help="A certificate, or a whole event that closes a ballot (JSON).")],
    root: Annotated[Path, typer.Option(help="root.json of the network: all that is trusted.")],
) -> None:
    """Check a decision: every signature, key and digest, the roll, the rule's outcome.

    Exit code 0: valid; 1: invalid, each reason on a line of its own; 2: unreadable.
    """
    try:
        reasons, summary = judge(_read(file), _root(root))
    except (Unreadable, OSError) as error:
        _unreadable(file, error)
    for reason in reasons:
        typer.echo(reason)
    if reasons:
        raise typer.Exit(1)
    typer.echo(summary)


def judge(obj: dict[str, Any], root: "Root") -> tuple[list[str], str]:
    """The reasons why what a file holds is not valid, or none and a line that says what was verified.

    `obj`: a certificate's JSON, or a structured CloudEvent. Raises Unreadable: it is neither.
    """
    from qalqan.certificate import CLOSING, verify_certificate, verify_event
    from qalqan.envelope import BadEnvelope, from_structured
    from qalqan.jsontext import parse

    if "specversion" in obj:
        if obj.get("type") not in CLOSING:
            raise Unreadable("an event, but not one that closes a ballot")
        try:
            event = from_structured(obj)
        except BadEnvelope as error:
            return [f"event: {error}"], ""
        reasons = verify_event(event, root)
        return reasons, "" if reasons else _summary(parse(event.data, max_string=None)["certificate"], event.source)
    if not _OF_A_CERTIFICATE & obj.keys():
        raise Unreadable("neither a certificate nor an event")
    reasons = verify_certificate(obj, root)
    return reasons, "" if reasons else _summary(obj, None)


def _summary(raw: dict[str, Any], issuer: str | None) -> str:
    from qalqan.certificate import Certificate, digest
    from qalqan.instants import format_instant

    certificate = Certificate.model_validate(raw)
    ballot = certificate.ballot
    positions = {
        entry.state: entry.position if entry.by == "vote" else f"{entry.position} by its request"
        for entry in certificate.counted
    }
    states = ", ".join(f"{state} {positions.get(state, 'absent')}" for state in ballot.roll)
    stated = f"stated by {issuer}" if issuer else "a certificate by itself: nobody's statement"
    return (
        f"valid: {ballot.request_id} revision {ballot.revision}, round {ballot.round} ({ballot.mode}): "
        f"{certificate.outcome} at {format_instant(certificate.decided_at)}; {states}; "
        f"{certificate.chain} number {certificate.serial}, {digest(raw)}, {stated}"
    )


def _read(file: Path) -> dict[str, Any]:
    from qalqan.jsontext import BadData, parse

    with file.open("rb") as opened:
        content = opened.read(LARGEST_BYTES + 1)
    if len(content) > LARGEST_BYTES:
        raise Unreadable(f"larger than {LARGEST_BYTES} bytes")
    try:
        return parse(content, max_string=None)
    except BadData as error:
        raise Unreadable(str(error)) from error


def _root(file: Path) -> "Root":
    from qalqan.registry import Root

    try:
        return Root.load(file)
    except (OSError, ValueError) as error:
        _unreadable(file, error)


def _unreadable(file: Path, error: Exception) -> NoReturn:
    from qalqan.complaints import why_unreadable

    typer.echo(f"{file}: {why_unreadable(error)}", err=True)
    raise typer.Exit(2) from error
