"""`qalqan prepare` on a broker and a database that others operate: here those of a runner, in a home of its own."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from deploy.local.infrastructure import Infrastructure
from deploy.local.roles import SERVICES
from qalqan.topics import INBOX_GOVERNANCE


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Infrastructure]:
    """A broker and a database, without any schema."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)
        patch.delenv("DATABASE_URL", raising=False)
        with Infrastructure(tmp_path_factory.mktemp("ground")) as running:
            yield running


def prepare(home: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Runs it with nothing of ours in its environment but this."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("KAFKA_", "DATABASE_", "QALQAN_"))}
    return subprocess.run(
        [sys.executable, "-m", "deploy.prepare", *arguments],
        env={**kept, "QALQAN_HOME": str(home), **environment},
        capture_output=True,
        text=True,
    )


def addresses(ground: Infrastructure) -> dict[str, str]:
    """What the environment says of Kafka and database, the password in a file."""
    url = urlsplit(ground.database_url)
    (ground.home / "owner").write_text(f"{url.password}\n")
    without = ground.database_url.replace(f":{url.password}@", "@")
    return {
        "KAFKA_BOOTSTRAP_SERVERS": ground.kafka,
        "DATABASE_URL": without,
        "PGPASSWORD_FILE": str(ground.home / "owner"),
    }


def of_role(ground: Infrastructure, home: Path, service: str) -> str:
    """The database's URL of a service's role, with the password that was handed out."""
    password = (home / "services" / service / "database-password").read_text()
    place = ground.database_url.rpartition("@")[2]
    return f"postgresql://qalqan_{service}:{password}@{place}"


async def submitted(ground: Infrastructure) -> int:
    """How many events stand in the Secretariat's inbox."""
    consumer = AIOKafkaConsumer(**ground.access.options())
    await consumer.start()
    try:
        partition = TopicPartition(INBOX_GOVERNANCE.name, 0)
        return int((await consumer.end_offsets([partition]))[partition])
    finally:
        await consumer.stop()


async def test_all_is_made_and_again_changes_nothing(ground: Infrastructure, tmp_path: Path) -> None:
    """Schemas, roles, keys and first events; a second run, as with a new version, finds all there."""
    where = addresses(ground)
    first = await asyncio.to_thread(lambda: prepare(tmp_path, "prepare", "--development-keys", **where))
    assert first.returncode == 0, first.stderr
    genesis = json.loads((tmp_path / "genesis.json").read_bytes())
    assert await submitted(ground) == len(genesis)

    again = await asyncio.to_thread(lambda: prepare(tmp_path, "prepare", **where))
    assert again.returncode == 0, again.stderr
    assert await submitted(ground) == len(genesis)

    for service in SERVICES:
        connection = await asyncpg.connect(of_role(ground, tmp_path, service))
        assert await connection.fetchval("select count(*) from alembic_version") == 1
        await connection.close()
    own = of_role(ground, tmp_path, "pledge")
    waited = await asyncio.to_thread(lambda: prepare(tmp_path, "prepared", "pledge", DATABASE_URL=own))
    assert waited.returncode == 0, waited.stderr


def test_a_network_is_not_made_by_a_slip(ground: Infrastructure, tmp_path: Path) -> None:
    """Without root.json and without a word for it no keys come to be; what is missing is said in a sentence."""
    done = prepare(tmp_path, "prepare", **addresses(ground))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "--development-keys" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ({"DATABASE_URL": ""}, "DATABASE_URL is not set"),
        ({"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}, "does not answer"),
        ({"KAFKA_BOOTSTRAP_SERVERS": ""}, "Kafka's variables cannot be used"),
    ],
)
def test_what_cannot_be_reached_is_said(
    ground: Infrastructure, tmp_path: Path, missing: dict[str, str], said: str
) -> None:
    """One sentence, no stack trace."""
    done = prepare(tmp_path, "prepare", "--development-keys", **{**addresses(ground), **missing})
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_prepared_says_what_it_waited_for(ground: Infrastructure, tmp_path: Path) -> None:
    """A database that is not prepared."""
    done = prepare(
        tmp_path, "prepared", "request", "--patience-s", "0.5", DATABASE_URL="postgresql://nobody@127.0.0.1:1/x"
    )
    assert done.returncode == 1
    assert "not ready for request" in done.stderr
