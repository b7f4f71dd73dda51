"""E-mail over SMTP (RFC 5321): a letter is plain text and HTML; its header holds nothing but single lines."""

import asyncio
import re
import time
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate
from typing import Any
from urllib.parse import unquote, urlsplit

from services.notify.delivery.answer import Answer
from services.notify.domain.letter import Letter
from services.notify.settings import DeliverySettings

ADDRESS_LIMIT = 254
_ADDRESS = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
    r"@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
)
_WHOLE_S = 30.0
_AT_ONCE = 4
"""Connections to the mail server."""


def check_address(text: str) -> None:
    """ValueError: not an address (RFC 5321 "Mailbox", the plain form)."""
    if len(text) > ADDRESS_LIMIT or not _ADDRESS.fullmatch(text) or len(text.partition("@")[0]) > 64:
        raise ValueError("not an e-mail address such as duty@example.org")


class Mail:
    """The way to the mail server. ValueError: the settings make no sense."""

    def __init__(self, settings: DeliverySettings) -> None:
        assert settings.smtp is not None
        url = urlsplit(settings.smtp.get_secret_value())
        if url.scheme not in ("smtp", "smtps", "starttls") or not url.hostname:
            raise ValueError("QALQAN_SMTP_URL must be smtp://, smtps:// or starttls:// and name a host")
        check_address(settings.mail_from)
        self._from = settings.mail_from
        self._options: dict[str, Any] = {
            "hostname": url.hostname,
            "port": url.port or {"smtp": 25, "smtps": 465, "starttls": 587}[url.scheme],
            "username": unquote(url.username) if url.username else None,
            "password": unquote(url.password) if url.password else None,
            "use_tls": url.scheme == "smtps",
            "start_tls": url.scheme == "starttls",
        }
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def send(self, to: str, letter: Letter, message_id: str) -> Answer:
        """One attempt."""
        import aiosmtplib  # 1.5 MB, which a network without e-mail does not carry

        began = time.monotonic()
        try:
            message = self._message(to, letter, message_id)
            async with self._slots, asyncio.timeout(_WHOLE_S):
                _, said = await aiosmtplib.send(message, sender=self._from, recipients=[to], **self._options)
        except aiosmtplib.SMTPResponseException as error:
            return _failed(began, f"the mail server answered {error.code} {error.message}", error.code)
        except aiosmtplib.SMTPRecipientsRefused as error:
            refusal = error.recipients[0]
            return _failed(began, f"the mail server answered {refusal.code} {refusal.message}", refusal.code)
        except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
            return _failed(began, f"the mail server did not take it: {error or type(error).__name__}")
        return Answer(True, 250, None, round((time.monotonic() - began) * 1000), said[:1_000])

    def _message(self, to: str, letter: Letter, message_id: str) -> EmailMessage:
        # The policy refuses line breaks in any header; there are none, since `letter.clean` took them out.
        message = EmailMessage(policy=SMTP.clone(max_line_length=998))
        message["From"] = self._from
        message["To"] = to
        message["Subject"] = letter.subject
        message["Date"] = formatdate()
        message["Message-ID"] = f"<{message_id}@{self._from.partition('@')[2]}>"
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's absence is to be answered to us
        message.set_content(letter.text, cte="base64")
        message.add_alternative(letter.html, subtype="html", cte="base64")
        return message


def _failed(began: float, why: str, status: int | None = None) -> Answer:
    return Answer(False, status, why[:300], round((time.monotonic() - began) * 1000))
