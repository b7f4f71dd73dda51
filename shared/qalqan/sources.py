"""Who an event is from: the `source` attribute (CONTRACT "Envelope")."""

import re
from dataclasses import dataclass
from typing import Literal, Self

_SOURCE = re.compile(
    r"qalqan://(?P<network>[A-Za-z0-9._-]{1,64})/"
    r"(?:states/(?P<state>[A-Z]{2,4})|services/(?P<service>[a-z]{1,40})|(?P<office>secretariat|root))"
)


@dataclass(frozen=True, slots=True)
class Source:
    """A parsed source: the network, the kind of actor, and its name (a state's code, a service's name, or the kind)."""

    network: str
    kind: Literal["state", "service", "secretariat", "root"]
    name: str

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """The source behind `text`, or None when it has not the contract's form."""
        match = _SOURCE.fullmatch(text)
        if match is None:
            return None
        network = match["network"]
        if match["state"]:
            return cls(network, "state", match["state"])
        if match["service"]:
            return cls(network, "service", match["service"])
        return cls(network, "secretariat" if match["office"] == "secretariat" else "root", match["office"])


def states_concerned(source: str, subject: str, of_a_request: bool) -> frozenset[str]:
    """The states that a public event is about: who says it, and whose request it belongs to, or who is registered."""
    said_by = Source.parse(source)
    about = subject.partition("-")[0] if of_a_request else subject
    return frozenset({about} | ({said_by.name} if said_by is not None and said_by.kind == "state" else set()))


def state_source(network: str, state: str) -> str:
    """`qalqan://<network>/states/KZ`."""
    return f"qalqan://{network}/states/{state}"


def service_source(network: str, service: str) -> str:
    """`qalqan://<network>/services/consensus`."""
    return f"qalqan://{network}/services/{service}"


def secretariat_source(network: str) -> str:
    """`qalqan://<network>/secretariat`: the Secretariat as an authority, unlike the service of that name."""
    return f"qalqan://{network}/secretariat"


def root_source(network: str) -> str:
    """`qalqan://<network>/root`: whoever holds a key of root.json."""
    return f"qalqan://{network}/root"
