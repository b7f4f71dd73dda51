"""What must be there before the services start, where Kafka and PostgreSQL are not the embedded ones.

`qalqan prepare` makes topics, roles, schemas, and (unless somebody else does) Kafka's users and rules, and submits the
network's first events: what `qalqan up` does, thin, from the same functions. It may be run again at any time, and after
each new version it is the migration. `qalqan secrets` comes before Kafka and PostgreSQL themselves, where a network
runs on one host by compose.yaml: it makes the brokers' certificates and the database owner's password.

Both keep what they make in a home, and hand out of it to each service a folder of its own, so that none can read what
is another's:

| folder | for | files |
|---|---|---|
| `services/<service>` | a service | `key.pem`, `root.json`, `ca.pem`, `kafka-password`, `database-password`, `token` |
| `brokers/<broker>` | a broker | `broker.pem` (key and certificate), `ca.pem` |
| `postgres` | PostgreSQL | `password` |
| `readers` | every service | `tokens.json` (`qalqan token --file`) |
| `admin` | `qalqan prepare` | `admin.pem`, `ca.pem`, `password`: of Kafka's and the database's owner |
"""

import asyncio
import os
import time
from pathlib import Path
from typing import Annotated

import asyncpg
import typer
from pydantic import ValidationError

from chassis.settings import read_files
from deploy.local import acls, genesis, roles, topics
from deploy.local.errors import CannotStart
from deploy.local.keys import Identity, identity
from deploy.local.migrate import is_current, migrate_all
from deploy.local.private import secret, write_private
from deploy.local.roles import SERVICES
from deploy.local.tls import Authority
from qalqan.access import Access
from qalqan.complaints import complaints

Home = Annotated[Path, typer.Option(envvar="QALQAN_HOME", help="Where keys and passwords of this network are.")]
_HOME = Path(".qalqan")
_ADMIN = "admin"
_LOOK_AGAIN_S = 1.0


def secrets(
    brokers: Annotated[str, typer.Option(help="The brokers' host names, with commas between.")],
    home: Home = _HOME,
) -> None:
    """Make the brokers' certificates and the database owner's password, before those start."""
    for part in ("admin", "postgres", "readers"):
        (home / part).mkdir(mode=0o700, parents=True, exist_ok=True)
    authority = Authority(home / "tls")
    ca = authority.certificate_file.read_bytes()
    for name in brokers.split(","):
        folder = home / "brokers" / name
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(folder / "broker.pem", authority.issue(name, name).read_bytes())
        write_private(folder / "ca.pem", ca)
    write_private(home / "admin" / "admin.pem", authority.issue(_ADMIN).read_bytes())
    write_private(home / "admin" / "ca.pem", ca)
    owner = secret(home, "database.owner").encode()
    write_private(home / "postgres" / "password", owner)
    write_private(home / "admin" / "password", owner)
    typer.echo(f"Certificates and passwords are in {home}.")


def prepare(
    home: Home = _HOME,
    development_keys: Annotated[
        bool, typer.Option("--development-keys", help="Make keys for everybody, if the home has none: for a trial.")
    ] = False,
    users: Annotated[
        bool | None, typer.Option(help="Make Kafka's users, rules and quotas; by default where Kafka asks who one is.")
    ] = None,
    database_passwords: Annotated[
        Path | None, typer.Option(help="A folder with a file for each service: its role's password in the database.")
    ] = None,
) -> None:
    """Make topics, Kafka's users and rules, the database's roles and schemas, and submit the network's first events.

    Kafka and database are those of KAFKA_BOOTSTRAP_SERVERS and DATABASE_URL, with a user of each who may do that.
    """
    read_files(os.environ)
    try:
        _prepare(home.absolute(), development_keys, users, database_passwords)
    except CannotStart as failure:
        typer.echo(str(failure), err=True)
        raise typer.Exit(1) from None


def prepared(
    service: Annotated[str, typer.Argument(help="Whose schema it waits for; DATABASE_URL is its role's.")],
    patience_s: Annotated[float, typer.Option(help="How long it waits.")] = 600.0,
) -> None:
    """Wait until `prepare` has made a service's schema what this version needs."""
    read_files(os.environ)
    deadline = time.monotonic() + patience_s
    why = "its schema is another version's"
    while time.monotonic() < deadline:
        try:
            if is_current(os.environ["DATABASE_URL"], service):
                return
        except (OSError, asyncpg.PostgresError) as error:
            why = repr(error)
        time.sleep(_LOOK_AGAIN_S)
    typer.echo(f"The database is not ready for {service}: {why}.", err=True)
    raise typer.Exit(1)


def _prepare(home: Path, development_keys: bool, users: bool | None, database_passwords: Path | None) -> None:
    access, database = _kafka(), os.environ.get("DATABASE_URL", "")
    if not database:
        raise CannotStart("DATABASE_URL is not set: name the database, with a user who may make roles and schemas.")
    network = _identity(home, development_keys)
    passwords = {service: _password(home, service, database_passwords) for service in SERVICES}
    makes_users = access.security_protocol != "PLAINTEXT" if users is None else users
    asyncio.run(_infrastructure(home, access, database, passwords, makes_users))
    migrate_all(database, SERVICES)
    asyncio.run(_first_events(network, access))
    if os.access(home, os.W_OK):
        for service in SERVICES:
            _hand_out(network, service, passwords[service])
    typer.echo(f"The network {network.network} is ready for its services.")


def _kafka() -> Access:
    try:
        return Access.of(os.environ)
    except ValidationError as error:
        raise CannotStart(f"Kafka's variables cannot be used: {'; '.join(complaints(error))}.") from error


def _identity(home: Path, development_keys: bool) -> Identity:
    found = Identity(home)
    if not found.root.exists() and not development_keys:
        raise CannotStart(
            f"There is no root.json in {home}: put there root.json and genesis.json of your network, or make keys for "
            "a trial with --development-keys."
        )
    return identity(home) if development_keys else found


def _password(home: Path, service: str, folder: Path | None) -> str:
    if folder is None:
        return secret(home, f"database.{service}")
    try:
        return (folder / service).read_text().strip()
    except OSError as error:
        raise CannotStart(f"The password of {service}'s role cannot be read: {error}.") from error


async def _infrastructure(
    home: Path, access: Access, database: str, passwords: dict[str, str], makes_users: bool
) -> None:
    if makes_users:
        await acls.establish(access, {user: secret(home, f"kafka.{user}") for user in acls.USERS})
    await topics.create(access)
    await roles.prepare(database, passwords)


async def _first_events(network: Identity, access: Access) -> None:
    """Submits them, unless `members` has them already; whose network this Kafka is stands there."""
    await genesis.check_network(network, access)
    if (network.home / "genesis.json").exists():
        await genesis.submit(network, access)


def _hand_out(network: Identity, service: str, database_password: str) -> None:
    home = network.home
    folder = home / "services" / service
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    (home / "readers").mkdir(mode=0o700, exist_ok=True)
    files = {
        "root.json": network.root.read_bytes(),
        "kafka-password": secret(home, f"kafka.{service}").encode(),
        "database-password": database_password.encode(),
        "token": secret(home, "token").encode(),
    }
    for name, path in (("key.pem", network.service_key(service)), ("ca.pem", home / "tls" / "ca.pem")):
        if path.exists():
            files[name] = path.read_bytes()
    for name, data in files.items():
        write_private(folder / name, data)


app = typer.Typer(add_completion=False)
app.command()(secrets)
app.command()(prepare)
app.command()(prepared)

if __name__ == "__main__":
    app()
