"""Letters against a real SMTP server: plain and HTML, at once and digests; what a state writes stays text."""

import asyncio
import contextlib
import email
import email.policy
from collections.abc import AsyncIterator
from email.message import EmailMessage
from typing import Any

import asyncpg
import httpx2
from aiosmtpd.smtp import SMTP

from deploy.local.stack import Stack
from tests.conftest import MAIL_PORT
from tests.integration.test_webhooks import Make, Party, deliveries, notify, of, raised, subscribed

__all__ = ["notify"]  # a fixture


class Box:
    """Letters as the server took them. `refuse`: what it answers instead, while it is set."""

    def __init__(self) -> None:
        self.letters: list[tuple[list[str], EmailMessage]] = []
        self.refuse: str | None = None
        self.came = asyncio.Event()

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        """One letter."""
        if self.refuse:
            return self.refuse
        read = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(read, EmailMessage)
        self.letters.append((envelope.rcpt_tos, read))
        self.came.set()
        return "250 taken"

    async def until(self, count: int) -> list[tuple[list[str], EmailMessage]]:
        """The letters, once there are so many."""
        async with asyncio.timeout(20):
            while len(self.letters) < count:
                await self.came.wait()
                self.came.clear()
        return self.letters


@contextlib.asynccontextmanager
async def mail_server() -> AsyncIterator[Box]:
    """A server where the system sends its letters."""
    box = Box()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(box, enable_SMTPUTF8=True), "127.0.0.1", MAIL_PORT)
    try:
        yield box
    finally:
        server.close()


def part(letter: EmailMessage, kind: str) -> str:
    """The plain or the HTML side of a letter."""
    found = letter.get_body((kind,))
    assert found is not None
    return str(found.get_content())


async def test_a_letter_at_once_and_what_comes_meanwhile_in_the_next(
    states: Party, new_request: Make, notify: httpx2.AsyncClient
) -> None:
    """The first alone, those within the next seconds together; every event in exactly one of them."""
    first, *others = [new_request() for _ in range(4)]
    async with mail_server() as box:
        to = "duty@afad.example"
        async with subscribed(notify, to, "email", name="the watch", filter=of(first, *others)) as made:
            assert made["secret"] is None
            await raised(states, first)
            await box.until(1)
            await raised(states, *others)
            [(recipients, letter), (_, second)] = await box.until(2)
            assert recipients == [to]
            assert letter["Subject"] == (
                f"[TEST] Qalqan: Extreme: Kahramanmaraş earthquakes: help is requested ({first['request_id']})"
            )
            assert (letter["From"], letter["To"]) == ("notify@qalqan.example", to)
            for kind in ("plain", "html"):
                text = part(letter, kind)
                assert "TEST - TEST - TEST" in text
                assert "Pazarcık" in text
                assert made["subscription_id"] in text
            assert second["Subject"] == "[TEST] Qalqan: 3 events, 3 requests"
            assert all(each["request_id"] in part(second, "plain") for each in others)
            await deliveries(notify, made, "delivered", 4)


async def test_hostile_text_stays_text_and_the_header_stays_ours(
    states: Party, new_request: Make, notify: httpx2.AsyncClient
) -> None:
    hostile = "<script>alert(1)</script>\r\nBcc: all@example.org\r\n\r\n\u202efdp.exe" + "🆘" * 5_000
    request = new_request(mode="exercise", text=hostile)
    request["emergency"] = {**request["emergency"], "title": hostile, "kind": hostile}
    async with mail_server() as box, subscribed(notify, "a@b.example", "email", filter=of(request)):
        await raised(states, request)
        [(recipients, letter)] = await box.until(1)
        assert recipients == ["a@b.example"]
        assert letter["Bcc"] is None
        assert letter["Subject"].startswith("[EXERCISE] Qalqan: Extreme: <script>")
        assert set(letter.keys()) == {
            *("From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "MIME-Version", "Content-Type")
        }
        shown = part(letter, "html")
        assert "<script" not in shown
        assert "&lt;script&gt;" in shown
        assert "\u202e" not in shown + part(letter, "plain")
        assert len(shown) < 20_000


async def test_a_digest_and_a_server_that_is_away(
    states: Party, new_request: Make, notify: httpx2.AsyncClient, system: Stack
) -> None:
    """A digest waits for its time, one letter for all; while the mail server refuses, it waits and is tried again."""
    requests = [new_request() for _ in range(3)]
    async with (
        mail_server() as box,
        subscribed(notify, "a@b.example", "email", filter=of(*requests), digest_minutes=1_440) as made,
    ):
        await raised(states, *requests)
        await deliveries(notify, made, "waiting", 3)
        assert not box.letters
        box.refuse = "451 later"
        await _make_due(system.database_url, made)
        failed = await deliveries(notify, made, "waiting", 3, "the mail server answered 451 later")
        assert {(each["status"], each["attempts"]) for each in failed} == {(451, 1)}
        box.refuse = None
        await _make_due(system.database_url, made)
        [(_, letter)] = await box.until(1)
        assert letter["Subject"] == "[TEST] Qalqan: 3 events, 3 requests"


async def _make_due(database_url: str, made: dict[str, Any]) -> None:
    """As if the time had come."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(
            "update notify.delivery set due_at = now() where subscription_id = $1", made["subscription_id"]
        )
    finally:
        await connection.close()


async def test_what_is_no_address_is_refused(notify: httpx2.AsyncClient) -> None:
    for target in ("duty", "a@b\r\nBcc: c@d.example", "a@b.example, c@d.example"):
        answer = await notify.post("/subscriptions", json={"kind": "email", "target": target})
        assert (answer.status_code, answer.json()["detail"]) == (
            422,
            "target: not an e-mail address such as duty@example.org",
        )
