"""What notify must be told beside what every service is told: how it may reach those who are not here."""

from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

Network = IPv4Network | IPv6Network


class StandingSettings(BaseSettings):
    """Whom `GET /streams` asks, from the environment."""

    model_config = SettingsConfigDict(env_ignore_empty=True, frozen=True, extra="ignore")

    services: Annotated[tuple[tuple[str, str], ...], NoDecode] = Field((), validation_alias="QALQAN_SERVICES")
    """Name and address of every replica of every service: `request=http://host:port,...`; a name may stand again."""

    @field_validator("services", mode="before")
    @classmethod
    def _pairs(cls, text: object) -> object:
        if not isinstance(text, str):
            return text
        pairs = [part.strip().partition("=") for part in text.split(",") if part.strip()]
        if not all(name and address for name, _, address in pairs):
            raise ValueError("not of the form name=address,name=address")
        return tuple((name, address) for name, _, address in pairs)


class DeliverySettings(BaseSettings):
    """Webhooks and e-mail, from the environment."""

    model_config = SettingsConfigDict(env_ignore_empty=True, frozen=True, extra="ignore")

    allow: Annotated[tuple[Network, ...], NoDecode] = Field((), validation_alias="QALQAN_WEBHOOK_ALLOW")
    """Networks that webhooks may reach although they are not public, with commas between: for tests, an intranet."""
    http: bool = Field(False, validation_alias="QALQAN_WEBHOOK_HTTP")
    """Whether a webhook may go over http, unencrypted."""
    timeout_s: float = Field(15.0, gt=0, le=60, validation_alias="QALQAN_WEBHOOK_TIMEOUT_S")
    """For one attempt, whole."""
    smtp: SecretStr | None = Field(None, validation_alias="QALQAN_SMTP_URL")
    """`smtp://user:password@host:port`, `smtps://` (TLS from the start) or `starttls://`; none: no e-mail."""
    mail_from: str = Field("qalqan@localhost", validation_alias="QALQAN_MAIL_FROM")

    @field_validator("allow", mode="before")
    @classmethod
    def _networks(cls, text: object) -> object:
        if not isinstance(text, str):
            return text
        return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())
