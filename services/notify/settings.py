"""What notify must be told beside what every service is told: how it may reach those who are not here."""

from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

Network = IPv4Network | IPv6Network


class DeliverySettings(BaseSettings):
    """Webhooks and e-mail, from the environment."""

    model_config = SettingsConfigDict(env_ignore_empty=True, frozen=True, extra="ignore")

    allow: Annotated[tuple[Network, ...], NoDecode] = Field((), validation_alias="QALQAN_WEBHOOK_ALLOW")
    """Networks that webhooks may reach although they are not public, with commas between: for tests, an intranet."""
    http: bool = Field(False, validation_alias="QALQAN_WEBHOOK_HTTP")
    """Whether a webhook may go over http, unencrypted."""
    smtp: SecretStr | None = Field(None, validation_alias="QALQAN_SMTP_URL")
    """`smtp://user:password@host:port`, `smtps://` (TLS from the start) or `starttls://`; none: no e-mail."""
    mail_from: str = Field("qalqan@localhost", validation_alias="QALQAN_MAIL_FROM")

    @field_validator("allow", mode="before")
    @classmethod
    def _networks(cls, text: object) -> object:
        return tuple(ip_network(part.strip()) for part in text.split(",")) if isinstance(text, str) else text
