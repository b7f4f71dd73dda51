"""`qalqan rotate`: a new key for a service, or for the Secretariat itself (a state's: `qalqan keys`).

The new key is registered beside the old one, and both are valid: first the new one is put in place, one replica after
the other, then the old one is taken out of use. Nothing that was signed before loses its worth.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, NoReturn

import httpx2
import typer
from aiokafka.errors import KafkaError

from deploy.local.roles import SERVICES
from qalqan import enrolment
from qalqan.client import Client, Doubtful
from qalqan.complaints import why_unreadable
from qalqan.enrolment import NotEnrolled, Registrar
from qalqan.keys import new_key, read_key
from qalqan.reach import BadInput, address, kafka, root_of
from qalqan.registry import Root
from qalqan.runinfo import NotRunning, RunInfo
from qalqan.signing import SigningKey
from qalqan.sources import root_source, secretariat_source, service_source

OFFICE = "secretariat-office"
"""The Secretariat as an authority; `secretariat` is its service."""


def rotate(
    whose: Annotated[str, typer.Argument(help=f"A service ({', '.join(SERVICES)}), or {OFFICE}.")],
    out: Annotated[Path | None, typer.Option(help="The new key file to make; none is overwritten.")] = None,
    revoke: Annotated[str | None, typer.Option(help="Instead: the id of the old key, to take it out of use.")] = None,
    by: Annotated[
        Path | None,
        typer.Option(help=f"Who says so: the Secretariat's key; for {OFFICE} the root key. By default run.json's."),
    ] = None,
    root: Annotated[Path | None, typer.Option(help="root.json; by default the running system's.")] = None,
    url: Annotated[str | None, typer.Option(help="The secretariat service's address; by default run.json's.")] = None,
) -> None:
    """Make and register a new key for a service or the Secretariat; the old one stays valid until it is revoked."""
    if whose not in (*SERVICES, OFFICE):
        _stop(f"{whose}: there are {', '.join(SERVICES)} and {OFFICE}")
    if (out is None) == (revoke is None):
        _stop("one of --out and --revoke")
    try:
        trusted = root_of(root)
        signer = _key(
            by or Path(RunInfo.load().keys) / "offices" / ("root.pem" if whose == OFFICE else "secretariat.pem")
        )
        if revoke is not None:
            what, key_id = (lambda registrar: registrar.revoke(revoke, "rotated")), revoke
        else:
            assert out is not None
            new = new_key(out)
            what, key_id = (lambda registrar: _register(registrar, trusted, whose, new)), new.key_id
        where = asyncio.run(_at_the_register(trusted, whose, signer, address(url, "secretariat"), what))
    except NotEnrolled as error:
        if out is not None:
            out.unlink(missing_ok=True)
        typer.echo(f"not done: {error}", err=True)
        raise typer.Exit(1) from error
    except (NotRunning, BadInput, Doubtful, KafkaError, ValueError, OSError, httpx2.TransportError) as error:
        _stop(f"not done: {error}")
    typer.echo(f"{'revoked' if revoke else 'registered'} {key_id} of {whose}: {where}")


async def _at_the_register(
    root: Root, whose: str, signer: SigningKey, url: str, what: Callable[[Registrar], Awaitable[str]]
) -> str:
    """The root key answers for the Secretariat's, and that for the services'."""
    as_whom = root_source(root.network) if whose == OFFICE else secretariat_source(root.network)
    async with Client(kafka(), root=root) as client:
        return await what(Registrar(client, url, signer, as_whom))


async def _register(registrar: Registrar, root: Root, whose: str, key: SigningKey) -> str:
    source = secretariat_source(root.network) if whose == OFFICE else service_source(root.network, whose)
    now = datetime.now(UTC).replace(microsecond=0)
    return await registrar.register(enrolment.claim_of(root.network, source, key), [], now, None)


def _key(file: Path) -> SigningKey:
    try:
        return read_key(file)
    except (OSError, ValueError) as error:
        _stop(f"{file}: {why_unreadable(error)}")


def _stop(why: str) -> NoReturn:
    typer.echo(why, err=True)
    raise typer.Exit(2)


if __name__ == "__main__":
    typer.run(rotate)
