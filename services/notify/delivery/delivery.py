"""All that telling others needs, put together."""

import secrets
from datetime import UTC, datetime

from chassis.database import Pool
from chassis.metrics import Measure
from chassis.tokens import Reader, Tokens
from qalqan.instants import format_instant
from services.notify.board import Board
from services.notify.delivery.answer import Answer
from services.notify.delivery.background import Background
from services.notify.delivery.dispatcher import Dispatcher
from services.notify.delivery.guard import Guard
from services.notify.delivery.mail import Mail
from services.notify.delivery.outlet import footer
from services.notify.delivery.webhook import Webhooks
from services.notify.domain.entry import Entry
from services.notify.domain.letter import About, letter
from services.notify.domain.subscription import Message, message_id, trial, wants
from services.notify.settings import DeliverySettings
from services.notify.store.subscriptions import Subscription
from services.notify.stream import Stream


def owner_of(reader: Reader) -> str:
    """Under which name a reader's subscriptions stand: a state's are its operators' together, and an integrator's
    those of its name (and state), so that a new token finds them."""
    if reader.role == "operator":
        return f"state {reader.state}"
    if reader.role == "secretariat":
        return reader.role
    return f"{reader.role} {reader.state or '-'} {reader.name}"


class Delivery:
    """Webhooks and letters of one replica. `source`: notify's own, of announcements."""

    def __init__(
        self,
        pool: Pool,
        stream: Stream,
        board: Board,
        tokens: Tokens,
        source: str,
        replica: str,
        settings: DeliverySettings,
    ) -> None:
        self.guard = Guard(settings)
        self.webhooks = Webhooks(self.guard, settings.timeout_s)
        self.mail = Mail(settings) if settings.smtp is not None else None
        self.background = Background(board)
        self._tokens = tokens
        self._source = source
        self._dispatcher = Dispatcher(pool, stream, self.background, self.webhooks, self.mail, self._owners, replica)

    async def run(self) -> None:
        """Tells subscriptions until cancelled."""
        await self._dispatcher.run()

    def measures(self) -> list[Measure]:
        """How it stands, for `GET /metrics`."""
        return self._dispatcher.measures()

    def close(self) -> None:
        """Lets go of threads."""
        self.guard.close()

    async def wants(self, subscription: Subscription, entry: Entry) -> bool:
        """Whether a subscription wants an event of the past, by the severity that its request has now."""
        message = Message.of(entry)
        return wants(subscription.filter, message, (await self.background.about(message.request_id)).severity)

    async def trial(self, subscription: Subscription) -> Answer:
        """Sends a message that is nothing but a trial, and says what was answered."""
        body = trial(self._source, secrets.token_hex(8), format_instant(datetime.now(UTC)))
        message = Message.of(Entry(0, body))
        identity = message_id(subscription.subscription_id, message)
        if subscription.kind == "email":
            assert self.mail is not None
            written = letter([(message, About())], None, footer(subscription))
            return await self.mail.send(subscription.target, written, identity)
        target = self.webhooks.target()
        try:
            return await target.send(subscription.target, identity, body, subscription.secrets)
        finally:
            await target.close()

    def _owners(self) -> set[str]:
        return {owner_of(reader) for reader in self._tokens.readers()}
