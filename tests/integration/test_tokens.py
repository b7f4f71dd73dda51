"""Tokens with a role: who may read what, on every service, and what becomes of those that do not count."""

import asyncio
import json
import stat
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import pytest
import pytest_asyncio
from typer.testing import CliRunner, Result

from chassis.tokens import NotAdmitted, Role, TokenFile, Tokens, new_token
from deploy.local.private import TOKENS, write_private
from deploy.local.roles import SERVICES
from deploy.local.stack import Stack
from deploy.local.tokens import app, changing
from qalqan.runinfo import RunInfo
from tests.integration.commands import qalqan
from tests.integration.stranger import Stranger

READS = {
    "request": "/requests",
    "consensus": "/ballots",
    "pledge": "/pledges",
    "secretariat": "/members",
    "notify": "/me",
}
NOW = datetime(2026, 1, 1, tzinfo=UTC)
ACTS_WITHIN_S = 10.0
"""A revocation acts within a second; the rest is this machine's."""


@pytest_asyncio.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(timeout=20) as client:
        yield client


def token(home: Path, *arguments: str) -> Result:
    """`qalqan token`."""
    return CliRunner().invoke(app, [*arguments, "--home", str(home)])


async def made(system: Stack, role: str, state: str | None = None, name: str = "duty desk") -> str:
    """A new token of the running system."""
    of = ["--state", state] if state else []
    done = token(system.home, "make", "--role", role, "--name", name, *of)
    assert done.exit_code == 0, done.stderr
    return done.stdout.strip()


def shows(token: str) -> dict[str, str]:
    """The header that shows it."""
    return {"authorization": f"Bearer {token}"}


async def every_status(http: httpx2.AsyncClient, run: RunInfo, shown: str) -> set[int]:
    """What the five services answer whoever shows this."""
    urls = [run.http[service] + READS[service] for service in SERVICES]
    return {
        answer.status_code for answer in await asyncio.gather(*(http.get(url, headers=shows(shown)) for url in urls))
    }


async def becomes(http: httpx2.AsyncClient, run: RunInfo, shown: str, status: int) -> float:
    """Seconds until every service answers so."""
    begun = time.monotonic()
    while await every_status(http, run, shown) != {status}:
        assert time.monotonic() - begun < ACTS_WITHIN_S
        await asyncio.sleep(0.05)
    return time.monotonic() - begun


async def test_a_token_is_known_and_revoked_everywhere_without_a_restart(
    system: Stack, run: RunInfo, http: httpx2.AsyncClient
) -> None:
    """From `make` to `revoke`, every service within a second; the file has no token, and is its owner's alone."""
    pids = RunInfo.load(system.home / "run.json").pids
    make = ("token", "make", "--role", "operator", "--state", "KZ", "--name", "duty desk, night")
    code, out, _ = await qalqan(system, *make)
    assert code == 0
    shown = out.strip()
    await becomes(http, run, shown, 200)
    me = (await http.get(f"{run.http['notify']}/me", headers=shows(shown))).json()
    assert me == {"role": "operator", "state": "KZ", "name": "duty desk, night"}

    file = system.home / TOKENS
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    token_id, secret = shown.removeprefix("qalqan_").split("_", 1)
    assert token_id in file.read_text()
    assert secret not in file.read_text()

    assert token(system.home, "revoke", token_id).exit_code == 0
    await becomes(http, run, shown, 401)
    told = (await http.get(f"{run.http['notify']}/me", headers=shows(shown))).json()["detail"]
    assert "revoked" in told
    assert RunInfo.load(system.home / "run.json").pids == pids


async def test_a_stream_ends_when_its_token_is_revoked(
    system: Stack, run: RunInfo, http: httpx2.AsyncClient, stranger: Stranger
) -> None:
    """What happens after the revocation does not come through; the development token's stream goes on."""
    shown = await made(system, "observer")
    await becomes(http, run, shown, 200)

    async def lines(of: str) -> list[str]:
        read = []
        async with http.stream("GET", f"{run.http['notify']}/stream", headers=shows(of)) as answer:
            assert answer.status_code == 200
            async for line in answer.aiter_lines():
                read += [line] if line.startswith("data: ") else []
        return read

    async def readers() -> str:
        text = (await http.get(f"{run.http['notify']}/metrics")).text
        return next(line for line in text.splitlines() if line.startswith("qalqan_stream_readers"))

    others = await readers()
    reading, lasting = asyncio.create_task(lines(shown)), asyncio.create_task(lines(run.token or ""))
    await asyncio.sleep(0.3)
    before = await stranger.raised()
    await stranger.stated("BallotOpened", before)
    token(system.home, "revoke", shown.split("_")[1])
    await becomes(http, run, shown, 401)
    await asyncio.sleep(0.6)  # a stream asks as often as a service looks at the file
    after = await stranger.raised()
    read = await asyncio.wait_for(reading, 10)
    assert any(before in line for line in read)
    assert not any(after in line for line in read)
    assert not lasting.done()
    lasting.cancel()
    async with asyncio.timeout(10):
        while await readers() != others:  # noqa: ASYNC110 - it is asked over HTTP
            await asyncio.sleep(0.1)


async def test_forged_tokens_are_nobodys(system: Stack, run: RunInfo, http: httpx2.AsyncClient) -> None:
    """Cut short, with another's id or secret, in another form or place: 401, on every service."""
    shown, other = await made(system, "integrator", "HU"), await made(system, "secretariat")
    await becomes(http, run, shown, 200)
    _, token_id, secret = shown.split("_", 2)
    forged = [
        shown[:-1],
        shown + "A",
        f"qalqan_{token_id}_",
        f"qalqan_{other.split('_')[1]}_{secret}",
        f"qalqan__{secret}",
        f"Qalqan_{token_id}_{secret}",
        secret,
        "qalqan",
        "_" * 200,
    ]
    for one in forged:
        assert await every_status(http, run, one) == {401}, one
    for service in SERVICES:
        url = run.http[service] + READS[service]
        for query in (f"token={shown}", f"access_token={shown}"):
            answer = await http.get(f"{url}?{query}")
            assert (answer.status_code, answer.headers["content-type"]) == (401, "application/problem+json")
            assert shown not in answer.text
    assert await every_status(http, run, shown) == {200}


async def test_what_cannot_be_made_is_said(system: Stack) -> None:
    """An operator without a state, a state that is none, a role that is none, an id that is none: one sentence, and
    nothing is written."""
    file = system.home / TOKENS
    before = file.read_bytes() if file.exists() else None
    wrong = [
        ("make", "--role", "operator", "--name", "x"),
        ("make", "--role", "operator", "--state", "kz", "--name", "x"),
        ("make", "--role", "observer", "--state", "KZ", "--name", "x"),
        ("make", "--role", "king", "--name", "x"),
        ("make", "--role", "observer", "--name", "x", "--days", "0"),
        ("revoke", "0123456789ab"),
    ]
    for arguments in wrong:
        done = token(system.home, *arguments)
        assert done.exit_code in (1, 2)
        assert done.stdout == ""
        assert "Traceback" not in done.stderr
    assert (file.read_bytes() if file.exists() else None) == before


async def test_the_list_shows_no_token(system: Stack) -> None:
    """Whose each is, and whether it counts; never its secret."""
    shown = await made(system, "operator", "UZ", "listed")
    done = token(system.home, "list")
    assert "UZ" in done.stdout
    assert shown.split("_")[1] in done.stdout
    assert shown.split("_", 2)[2] not in done.stdout


async def test_the_documents_tell_of_tokens(run: RunInfo, http: httpx2.AsyncClient) -> None:
    """The security scheme, and 401 as a problem on whatever needs a token."""
    for service in SERVICES:
        document = (await http.get(f"{run.http[service]}/openapi.json")).json()
        scheme = document["components"]["securitySchemes"]["token"]
        assert (scheme["type"], scheme["scheme"], scheme["bearerFormat"]) == ("http", "bearer", "qalqan_<id>_<secret>")
        operation = document["paths"][READS[service]]["get"]
        assert operation["security"] == [{"token": []}]
        assert list(operation["responses"]["401"]["content"]) == ["application/problem+json"]


# --- the file ---


def written(path: Path, role: Role = "observer", days: float = 1, now: datetime | None = None) -> str:
    """A token that is the only one of a file."""
    now = now or datetime.now(UTC)
    shown, kept = new_token(role, None, "somebody", now, now + timedelta(days=days))
    write_private(path, TokenFile(tokens=(kept,)).model_dump_json().encode())
    return shown


def again(tokens: Tokens) -> Tokens:
    """The same, at its next look."""
    tokens._look_at = 0.0
    return tokens


def test_a_token_counts_until_its_last_moment(tmp_path: Path) -> None:
    """The instant of `valid_until` is not within (CONTRACT "root.json": from <= t < until)."""
    shown, kept = new_token("operator", "KZ", "night", NOW, NOW + timedelta(days=1))
    assert kept.over(NOW + timedelta(days=1) - timedelta(microseconds=1)) is None
    assert kept.over(NOW + timedelta(days=1)) == "it was valid until 2026-01-02T00:00:00Z"
    path = tmp_path / TOKENS
    write_private(path, TokenFile(tokens=(kept,)).model_dump_json().encode())
    with pytest.raises(NotAdmitted, match="valid until"):
        Tokens(path).reader(shown)


def test_a_broken_file_changes_nothing(tmp_path: Path) -> None:
    """The last that could be read rules; at the start nobody but the development token is known."""
    path = tmp_path / TOKENS
    shown = written(path)
    tokens = Tokens(path, "development token")
    assert tokens.reader(shown).role == "observer"
    for broken in (b"", b"{", b'{"tokens":[{}]}', b"\xff", json.dumps({"tokens": 1}).encode()):
        path.write_bytes(broken)
        assert again(tokens).reader(shown).role == "observer"
        late = Tokens(path, "development token")
        with pytest.raises(NotAdmitted):
            late.reader(shown)
        assert late.reader("development token").role == "secretariat"
    other = written(path)
    assert again(tokens).reader(other).role == "observer"
    with pytest.raises(NotAdmitted):
        tokens.reader(shown)


def test_a_file_that_is_gone_holds_no_token(tmp_path: Path) -> None:
    """To take it away takes all tokens back; a token that comes later is known."""
    path = tmp_path / TOKENS
    tokens = Tokens(path)
    with pytest.raises(NotAdmitted):
        tokens.reader("qalqan_0123456789ab_x")
    reader = again(tokens).reader(shown := written(path))
    assert tokens.still_admits(reader)
    path.unlink()
    assert not again(tokens).still_admits(reader)
    with pytest.raises(NotAdmitted):
        tokens.reader(shown)


def test_without_a_development_token_nothing_stands_for_it(tmp_path: Path) -> None:
    """An empty QALQAN_TOKEN admits nobody, whatever is shown."""
    tokens = Tokens(tmp_path / TOKENS)
    for shown in ("", "development", "\udcff"):
        with pytest.raises(NotAdmitted):
            tokens.reader(shown)


def test_two_who_make_tokens_at_once_lose_none(tmp_path: Path) -> None:
    """One after the other, each on what the other wrote."""
    path = tmp_path / TOKENS

    def add(number: int) -> None:
        with changing(path) as tokens:
            tokens.append(new_token("observer", None, str(number), NOW, NOW + timedelta(days=1))[1])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(40)))
    assert {token.name for token in TokenFile.load(path).tokens} == {str(number) for number in range(40)}
    assert list(tmp_path.iterdir()) == [path]


def test_who_acts_for_a_state(tmp_path: Path) -> None:
    """Its own operator and the Secretariat; nobody else, whatever state they name."""
    of = {
        role: new_token(role, state, "x", NOW, NOW)[1].reader
        for role, state in (("operator", "KZ"), ("secretariat", None), ("observer", None), ("integrator", "KZ"))
    }
    assert {role: (of[role].acts_for("KZ"), of[role].acts_for("TR")) for role in of} == {
        "operator": (True, False),
        "secretariat": (True, True),
        "observer": (False, False),
        "integrator": (False, False),
    }
