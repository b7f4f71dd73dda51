"""`qalqan watch` as people run it: a process beside a running system, by HTTP and from Kafka."""

import asyncio
import base64
import contextlib
import fcntl
import json
import os
import pty
import re
import signal
import struct
import sys
import termios
import unicodedata
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from chassis.http import _Server
from deploy.local.ports import free_ports
from deploy.local.stack import Stack
from qalqan.runinfo import RunInfo
from tests.conftest import Party

Json = dict[str, Any]
PATIENCE_S = 60.0


class Watch:
    """A running `qalqan watch --json`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.seen: list[Json] = []

    @classmethod
    @contextlib.asynccontextmanager
    async def over(cls, system: Stack, *arguments: str) -> AsyncIterator["Watch"]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "qalqan.cli", "watch", "--json", *arguments),
            env={**os.environ, "QALQAN_HOME": str(system.home)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=16 * 1024 * 1024,
        )
        try:
            yield cls(process)
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def until(self, wanted: Callable[[Json], bool]) -> Json:
        """The first line that is wanted."""
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            while True:
                line = await self.process.stdout.readline()
                assert line, "it ended"
                self.seen.append(json.loads(line))
                if wanted(self.seen[-1]):
                    return self.seen[-1]

    async def stopped(self) -> tuple[int, str]:
        """Ctrl-C: its exit code, and what it said."""
        self.process.send_signal(signal.SIGINT)
        _, err = await asyncio.wait_for(self.process.communicate(), PATIENCE_S)
        return self.process.returncode or 0, err.decode()


def named(name: str, state: str = "") -> Callable[[Json], bool]:
    return lambda event: event["type"] == f"qalqan.{name}.v1" and event["source"].endswith(state)


async def raised(states: Party, new_request: Callable[..., Json]) -> str:
    data = new_request()
    await states["TR"].settled(await states["TR"].raise_request(data))
    return str(data["request_id"])


async def vote(states: Party, state: str, request_id: str) -> None:
    voter = states[state]
    await voter.settled(await voter.vote(await voter.ballot(request_id), "approve"))


async def readers(system: Stack) -> int:
    """How many read notify's stream."""
    async with httpx2.AsyncClient() as http:
        told = (await http.get(f"{RunInfo.load(system.home / 'run.json').http['notify']}/metrics")).text
    (found,) = re.findall(r"^qalqan_stream_readers (\d+)", told, re.MULTILINE)
    return int(found)


async def test_both_ways_show_the_same(system: Stack, states: Party, new_request: Callable[..., Json]) -> None:
    """All of one request, each event once, each signature found valid; Ctrl-C ends it without a word."""
    request_id = await raised(states, new_request)
    await vote(states, "KZ", request_id)
    only = ("--from-beginning", "--request", request_id)
    found = []
    for way in ((), ("--kafka",)):
        async with Watch.over(system, *only, *way) as watch:
            await watch.until(named("VoteCast", "KZ"))
            while len(watch.seen) < 3:
                await watch.until(lambda _: True)
            assert await watch.stopped() == (0, "")
        assert {event["signature"] for event in watch.seen} == {"valid"}
        found.append(sorted((event["topic"], event["partition"], event["offset"]) for event in watch.seen))
    assert found[0] == found[1]
    assert [topic for topic, _, _ in found[0]] == ["decisions", "requests", "votes"]


@pytest.mark.parametrize("columns", [80, 260])
async def test_no_text_of_a_state_commands_the_terminal(
    system: Stack, states: Party, new_request: Callable[..., Json], columns: int
) -> None:
    """A title that would clear the screen, rename the window and write backwards, seen in a real (pseudo) terminal."""
    request = new_request()
    request["emergency"]["title"] = "\x1b[2J\x1b]0;owned\x07\x9b31m[red]no[/red]\u202egnp.exe\r\nForged row"
    await states["TR"].settled(await states["TR"].raise_request(request))
    # Whoever runs the tests may have set a size of its own.
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    only = ("--from-beginning", "--type", "RequestRaised", "--request", request["request_id"])
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "qalqan.cli", "watch", *only),
        env={**environment, "QALQAN_HOME": str(system.home), "TERM": "xterm-256color"},
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = ""
    try:
        async with asyncio.timeout(PATIENCE_S):
            while "Forged row" not in " ".join(shown.split()):
                shown += (await asyncio.to_thread(os.read, ours, 65_536)).decode()
    except TimeoutError:
        pytest.fail(f"all that was shown: {shown!r}")
    finally:
        process.terminate()
        assert await process.wait() == 0
        os.close(ours)
    bare = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert "\x1b[32mvalid" in shown
    assert "[red]no[/red]" in bare
    assert {each for each in bare if unicodedata.category(each) in ("Cc", "Cf")} <= {"\r", "\n"}
    assert not [line for line in bare.splitlines() if line.startswith("Forged")]


async def test_it_goes_on_when_notify_dies(system: Stack, states: Party, new_request: Callable[..., Json]) -> None:
    """Nothing is missed and nothing shown twice; it says that it lost the stream, and that it goes on."""
    request_id, before = await raised(states, new_request), await readers(system)
    async with (
        Watch.over(system, "--request", request_id, "--from-beginning") as watch,
        Watch.over(system, "--request", request_id) as from_now_on,
    ):
        await watch.until(named("BallotOpened"))
        async with asyncio.timeout(PATIENCE_S):
            # Each has a second one for the registrations.
            while await readers(system) < before + 4:  # noqa: ASYNC110  notify tells nobody
                await asyncio.sleep(0.1)
        os.kill(RunInfo.load(system.home / "run.json").pids["notify"], signal.SIGKILL)
        for state in ("KZ", "UZ"):
            await vote(states, state, request_id)
        await watch.until(named("VoteCast", "KZ"))
        await watch.until(named("VoteCast", "UZ"))
        code, said = await watch.stopped()
        # It was cut off before it had seen anything, and yet misses nothing.
        for state in ("KZ", "UZ"):
            if not any(map(named("VoteCast", state), from_now_on.seen)):
                await from_now_on.until(named("VoteCast", state))
    assert code == 0
    assert "the stream was lost" in said
    assert "the stream goes on" in said
    ids = [event["id"] for event in watch.seen]
    assert len(ids) == len(set(ids)) == 4


async def test_a_stream_that_lies_is_found_out(
    system: Stack, run: RunInfo, states: Party, new_request: Callable[..., Json]
) -> None:
    """Between notify and us stands one who turns KZ's approval into an abstention and says everything twice."""
    request_id = await raised(states, new_request)
    for state in ("KZ", "UZ"):
        await vote(states, state, request_id)

    async def relay(request: Request) -> StreamingResponse:
        headers = {name: request.headers[name] for name in ("authorization", "last-event-id")}

        async def lines() -> AsyncIterator[str]:
            async with (
                httpx2.AsyncClient(timeout=30) as http,
                http.stream(
                    "GET", f"{run.dashboard}/stream", headers=headers, params=list(request.query_params.multi_items())
                ) as answer,
            ):
                async for line in answer.aiter_lines():
                    data = line.removeprefix("data: ")
                    if data == line:
                        yield line + "\n"
                        continue
                    for text in (turned(data), turned(data)):
                        yield f"data: {text}\n\n"

        return StreamingResponse(lines(), media_type="text/event-stream")

    def turned(data: str) -> str:
        event = json.loads(data)
        if not named("VoteCast", "KZ")(event):
            return data
        vote = base64.b64decode(event["data_base64"]).replace(b'"approve"', b'"abstain"')
        return json.dumps({**event, "data_base64": base64.b64encode(vote).decode()})

    (port,) = free_ports(1)
    config = uvicorn.Config(Starlette(routes=[Route("/stream", relay)]), port=port, log_level="warning", lifespan="off")
    server = _Server(config)
    serving = asyncio.create_task(server.serve())
    try:
        only = ("--from-beginning", "--request", request_id, "--token", run.token or "")
        async with Watch.over(system, "--url", f"http://127.0.0.1:{port}", *only) as watch:
            # In whatever order: one topic may be read before another.
            votes = [named("VoteCast", state) for state in ("KZ", "UZ")]
            wanted = [*votes, named("RequestRaised"), named("BallotOpened")]
            await watch.until(lambda _: all(any(map(each, watch.seen)) for each in wanted))
            forged, honest = (next(filter(vote, watch.seen)) for vote in votes)
            assert (await watch.stopped())[0] == 0
    finally:
        server.force_exit = server.should_exit = True
        await serving
    assert forged["signature"] == "not valid: the signed digest is another event's"
    assert honest["signature"] == "valid"
    believed = [event["id"] for event in watch.seen if event["signature"] == "valid"]
    assert len(believed) == len(set(believed)) == 3
