"""How a client reaches Kafka: where it is, and how one shows oneself there.

The one place where a connection's options are made: every consumer, producer and admin client of ours takes
`Access.options()`. In the environment it has the names that Kafka's users know.
"""

import contextlib
import ssl
from collections.abc import Mapping
from typing import Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

VARIABLES: Final = {
    "bootstrap_servers": "KAFKA_BOOTSTRAP_SERVERS",
    "security_protocol": "KAFKA_SECURITY_PROTOCOL",
    "ssl_cafile": "KAFKA_SSL_CAFILE",
    "ssl_certfile": "KAFKA_SSL_CERTFILE",
    "ssl_keyfile": "KAFKA_SSL_KEYFILE",
    "sasl_mechanism": "KAFKA_SASL_MECHANISM",
    "sasl_username": "KAFKA_SASL_USERNAME",
    "sasl_password": "KAFKA_SASL_PASSWORD",
}
"""The environment's name of each field."""

Protocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


class Access(BaseModel):
    """Kafka's address and what proves to it who we are; by default nothing, as on the loopback interface."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    bootstrap_servers: str
    """`host:port[,host:port]`."""
    security_protocol: Protocol = "PLAINTEXT"
    ssl_cafile: str | None = None
    """PEM of whom we trust to sign the brokers' certificates; None: those whom this machine trusts."""
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    """Our own certificate and key, where the broker asks for one."""
    sasl_mechanism: Mechanism = "SCRAM-SHA-512"
    sasl_username: str | None = None
    sasl_password: str | None = Field(default=None, repr=False)

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Self:
        """What the environment says. pydantic.ValidationError: it says something else than the above."""
        found = {field: environment.get(name) for field, name in VARIABLES.items()}
        return cls.model_validate({field: value for field, value in found.items() if value})

    def environment(self) -> dict[str, str | None]:
        """The same as variables; None: must not be there."""
        return {name: getattr(self, field) for field, name in VARIABLES.items()}

    def options(self) -> dict[str, Any]:
        """The options of any client of aiokafka. ValueError: a file of certificates cannot be read."""
        options: dict[str, Any] = {"bootstrap_servers": self.bootstrap_servers}
        if self.security_protocol == "PLAINTEXT":
            return options
        options["security_protocol"] = self.security_protocol
        if self.security_protocol.endswith("SSL"):
            options["ssl_context"] = _tls(self.ssl_cafile, self.ssl_certfile, self.ssl_keyfile)
        if self.security_protocol.startswith("SASL"):
            options |= {
                "sasl_mechanism": self.sasl_mechanism,
                "sasl_plain_username": self.sasl_username,
                "sasl_plain_password": self.sasl_password,
            }
        return options


class _Closing(ssl.SSLObject):
    """A connection that says goodbye and does not wait for the other's (RFC 8446, section 6.1, asks for no more).

    asyncio would wait up to 30 s for it, and Kafka sends none when our goodbye comes right behind a request.
    """

    def unwrap(self) -> None:
        """Puts our close_notify among what is to be sent."""
        with contextlib.suppress(ssl.SSLWantReadError):
            super().unwrap()


def _tls(cafile: str | None, certfile: str | None, keyfile: str | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=cafile)
        context.sslobject_class = _Closing
        if certfile is not None:
            context.load_cert_chain(certfile, keyfile)
    except OSError as error:  # ssl.SSLError is one
        raise ValueError(
            f"Kafka's certificates cannot be read ({error}): look at {cafile or 'the CAs of this machine'}"
            + (f" and {certfile}" if certfile else "")
        ) from error
    return context
