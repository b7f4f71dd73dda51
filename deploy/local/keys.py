"""Development keys of one network: made at the first start, for this home alone.

`root.json` is what a stranger trusts; `genesis.json` holds the signed registrations of everybody, which the
runner submits to the Secretariat's inbox at the first start. CONTRACT "root.json" and "Submissions".
"""

import base64
import json
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deploy.local.private import write_private
from deploy.local.roles import SERVICES
from qalqan import jsontext
from qalqan.envelope import Event, from_structured, to_structured
from qalqan.events import KeyRegistered, MemberRegistered, dump, type_of
from qalqan.instants import format_instant
from qalqan.registry import possession_claim
from qalqan.signing import Ed25519Key, sign
from qalqan.sources import root_source, secretariat_source, service_source, state_source

SCOPES = ("request", "pledge", "accept", "vote", "track", "consent")

STATES: dict[str, tuple[str, dict[str, str]]] = {
    "AZ": ("member", {"az": "Azərbaycan", "kk": "Әзербайжан", "ky": "Азербайжан", "tr": "Azerbaycan",
                      "uz": "Ozarbayjon", "en": "Azerbaijan"}),
    "KG": ("member", {"az": "Qırğızıstan", "kk": "Қырғызстан", "ky": "Кыргызстан", "tr": "Kırgızistan",
                      "uz": "Qirgʻiziston", "en": "Kyrgyzstan"}),
    "KZ": ("member", {"az": "Qazaxıstan", "kk": "Қазақстан", "ky": "Казакстан", "tr": "Kazakistan",
                      "uz": "Qozogʻiston", "en": "Kazakhstan"}),
    "TR": ("member", {"az": "Türkiyə", "kk": "Түркия", "ky": "Түркия", "tr": "Türkiye",
                      "uz": "Turkiya", "en": "Türkiye"}),
    "UZ": ("member", {"az": "Özbəkistan", "kk": "Өзбекстан", "ky": "Өзбекстан", "tr": "Özbekistan",
                      "uz": "Oʻzbekiston", "en": "Uzbekistan"}),
    "HU": ("observer", {"az": "Macarıstan", "kk": "Мажарстан", "ky": "Венгрия", "tr": "Macaristan",
                        "uz": "Vengriya", "en": "Hungary", "hu": "Magyarország"}),
    "TM": ("observer", {"az": "Türkmənistan", "kk": "Түрікменстан", "ky": "Түркмөнстан", "tr": "Türkmenistan",
                        "uz": "Turkmaniston", "en": "Turkmenistan", "tk": "Türkmenistan"}),
    "TRNC": ("observer", {"az": "Şimali Kipr Türk Respublikası", "tr": "Kuzey Kıbrıs Türk Cumhuriyeti",
                          "en": "Turkish Republic of Northern Cyprus"}),
}  # fmt: skip
"""The five members and three observers (DOMAIN "The mechanism"): status and names."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Where this home keeps who it is."""

    home: Path

    @property
    def root(self) -> Path:
        """root.json."""
        return self.home / "root.json"

    @property
    def keys(self) -> Path:
        """The directory of the states' keys (`KZ.pem`) and nobody else's, which are in directories below."""
        return self.home / "keys"

    def office_key(self, office: str) -> Path:
        """The private key of the `root` or of the `secretariat` as an authority."""
        return self.keys / "offices" / f"{office}.pem"

    def service_key(self, service: str) -> Path:
        """The private key of a service."""
        return self.keys / "services" / f"{service}.pem"

    @property
    def network(self) -> str:
        """The network's name."""
        name: str = json.loads(self.root.read_bytes())["network"]
        return name

    def genesis(self) -> list[Event]:
        """The registrations to submit, in their order."""
        return [from_structured(event) for event in json.loads((self.home / "genesis.json").read_bytes())]


def identity(home: Path) -> Identity:
    """The identity of this home, made if it has none yet. root.json is written last: with it, all the rest is
    there."""
    found = Identity(home)
    if not found.root.exists():
        _make(found)
    return found


def _make(new: Identity) -> None:
    network = f"dev-{secrets.token_hex(2)}"
    now = datetime.now(UTC).replace(microsecond=0)
    for directory in (new.keys, new.keys / "offices", new.keys / "services"):
        directory.mkdir(mode=0o700, exist_ok=True)

    def key(path: Path) -> Ed25519Key:
        made = Ed25519Key.generate()
        write_private(path, made.to_pem())
        return made

    root, secretariat = key(new.office_key("root")), key(new.office_key("secretariat"))
    chain = _Chain(network, now)
    chain.register_key(root_source(network), root, secretariat_source(network), secretariat, ())
    office = (secretariat_source(network), secretariat)
    for service in SERVICES:
        chain.register_key(*office, service_source(network, service), key(new.service_key(service)), ())
    for state, (status, names) in STATES.items():
        chain.register_member(*office, state, status, names)
        chain.register_key(*office, state_source(network, state), key(new.keys / f"{state}.pem"), SCOPES)
    write_private(new.home / "genesis.json", json.dumps([to_structured(event) for event in chain.events]).encode())
    trusted = {
        "key_id": root.key_id,
        "algorithm": root.algorithm,
        "public_key": root.public_pem,
        "valid_from": format_instant(now),
        "valid_until": None,
    }
    write_private(new.root, json.dumps({"network": network, "keys": [trusted]}, indent=1).encode())


@dataclass
class _Chain:
    """The events of `members` in the making, each with `serial` and the digest of the data before."""

    network: str
    now: datetime
    events: list[Event] = field(default_factory=list)

    def register_key(
        self, signer: str, signing: Ed25519Key, source: str, key: Ed25519Key, scopes: tuple[str, ...]
    ) -> None:
        claim = possession_claim(self.network, source, key.key_id)
        registration = KeyRegistered.model_validate(
            {
                **self._link(),
                "source": source,
                "key_id": key.key_id,
                "algorithm": key.algorithm,
                "public_key": key.public_pem,
                "scopes": list(scopes),
                "valid_from": format_instant(self.now),
                "valid_until": None,
                "possession": base64.b64encode(key.sign(claim)).decode(),
            }
        )
        self._state("KeyRegistered", key.key_id, dump(registration), signer, signing)

    def register_member(self, signer: str, signing: Ed25519Key, state: str, status: str, names: dict[str, str]) -> None:
        registration = MemberRegistered.model_validate(
            {
                **self._link(),
                "state": state,
                "names": names,
                "status": status,
                "from": format_instant(self.now),
                "until": None,
            }
        )
        self._state("MemberRegistered", state, dump(registration), signer, signing)

    def _link(self) -> dict[str, Any]:
        previous = jsontext.digest(self.events[-1].data) if self.events else None
        return {"serial": len(self.events) + 1, "previous": previous}

    def _state(self, name: str, subject: str, data: dict[str, Any], signer: str, signing: Ed25519Key) -> None:
        event = Event(
            id=f"genesis-{data['serial']}",
            source=signer,
            type=type_of(name),
            subject=subject,
            time=format_instant(self.now),
            datacontenttype="application/json",
            data=jsontext.canonical(data),
        )
        self.events.append(sign(event, signing))
