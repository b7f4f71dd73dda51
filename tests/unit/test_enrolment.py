"""A claim of a key: what its holder makes, and what the Secretariat takes."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from qalqan.cli import app
from qalqan.enrolment import NotEnrolled, claim, read_claim
from qalqan.signing import EcdsaP256Key, Ed25519Key


@pytest.mark.parametrize("kind", [Ed25519Key, EcdsaP256Key])
def test_a_claim_is_taken_as_it_was_made(kind: Any) -> None:
    key = kind.generate()
    made = claim("dev-3f9a", "KZ", key)
    assert made.source == "qalqan://dev-3f9a/states/KZ"
    assert read_claim(made.model_dump_json().encode()) == made


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"source": "qalqan://dev-3f9a/states/UZ"}, "possession"),
        ({"network": "other", "source": "qalqan://other/states/KZ"}, "possession"),
        ({"network": "other"}, "no state's in"),
        ({"source": "qalqan://dev-3f9a/secretariat"}, "no state's in"),
        ({"key_id": "0" * 64}, "key_id"),
        ({"public_key": "none"}, "not a PEM public key"),
        ({"possession": "?"}, "possession: not padded"),
        ({"algorithm": "rsa"}, "unknown algorithm"),
        ({"key_id": None}, "key_id"),
    ],
)
def test_what_does_not_hold_is_refused(changes: dict[str, Any], why: str) -> None:
    made = claim("dev-3f9a", "KZ", Ed25519Key.generate()).model_dump()
    with pytest.raises(NotEnrolled, match=why):
        read_claim(json.dumps(made | changes).encode())


def test_what_is_no_json_is_refused() -> None:
    with pytest.raises(NotEnrolled, match="not JSON"):
        read_claim(b"{")


def test_a_scope_that_is_none_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "claim.json"
    file.write_text(claim("dev-3f9a", "KZ", Ed25519Key.generate()).model_dump_json())
    done = CliRunner().invoke(app, ["keys", "register", str(file), "--scopes", "vote,all"])
    assert done.exit_code == 2
    assert "--scopes: all: there are request, pledge" in done.stderr
