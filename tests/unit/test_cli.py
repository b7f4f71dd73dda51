"""The command line, as a person meets it: what it says, and how it ends."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from qalqan.cli import app
from qalqan.envelope import to_structured
from qalqan.signing import Ed25519Key
from tests.unit.decisions import DEADLINE, Decision, World, closing_event

run = CliRunner().invoke


@pytest.fixture(scope="module")
def world() -> World:
    return World.founded()


@pytest.fixture
def place(tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the network's root.json, and nothing that runs."""
    monkeypatch.setenv("QALQAN_HOME", str(tmp_path / "home"))
    (tmp_path / "root.json").write_text(world.root.model_dump_json())
    return tmp_path


def write(path: Path, content: Any) -> str:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def lapsed(world: World) -> dict[str, Any]:
    return Decision(world).vote("AZ").certificate("lapsed", DEADLINE)


def test_verify_a_certificate(place: Path, world: World) -> None:
    file = write(place / "certificate.json", lapsed(world))
    result = run(app, ["verify", file, "--root", str(place / "root.json")])
    assert (result.exit_code, result.stdout.count("\n")) == (0, 1)
    assert result.stdout.startswith(
        "valid: TR-2023-0001 revision 1, round 1 (actual): lapsed at 2023-02-07T01:30:00Z; "
        "AZ approve, KG absent, KZ absent, TR approve by its request, UZ absent; decisions-"
    )


def test_verify_an_event(place: Path, world: World) -> None:
    event = to_structured(closing_event(world, lapsed(world)))
    root = ["--root", str(place / "root.json")]
    result = run(app, ["verify", write(place / "event.json", event), *root])
    assert result.exit_code == 0
    assert result.stdout.endswith(", stated by qalqan://test-1/services/consensus\n")
    result = run(app, ["verify", write(place / "event.json", event | {"id": "other"}), *root])
    assert (result.exit_code, result.stdout) == (1, "event: the signed digest is another event's\n")
    result = run(app, ["verify", write(place / "event.json", event | {"source": "no uri"}), *root])
    assert (result.exit_code, result.stdout) == (1, "event: source: 'no uri' is not a URI\n")


def test_verify_says_each_reason_on_a_line(place: Path, world: World) -> None:
    certificate = lapsed(world) | {"outcome": "reached", "serial": 1, "chain": "\x1b[2J\n"}
    result = run(app, ["verify", write(place / "c.json", certificate), "--root", str(place / "root.json")])
    assert (result.exit_code, len(result.stdout.splitlines())) == (1, 3)
    assert result.stdout.isascii()
    assert "\x1b" not in result.stdout


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (None, "No such file"),
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ("[" * 100_000, "nested deeper"),
        ({"name": "Kalqan"}, "neither a certificate nor an event"),
        ({"specversion": "1.0", "type": "qalqan.VoteCast.v1"}, "not one that closes a ballot"),
    ],
)
def test_verify_unreadable(place: Path, content: Any, what: str) -> None:
    file = str(place / "missing.json") if content is None else write(place / "file.json", content)
    result = run(app, ["verify", file, "--root", str(place / "root.json")])
    assert (result.exit_code, result.stdout) == (2, "")
    assert what in result.stderr
    assert file in result.stderr


@pytest.mark.parametrize("content", [None, "{}", "no"])
def test_verify_without_a_root(place: Path, world: World, content: str | None) -> None:
    file = write(place / "certificate.json", lapsed(world))
    root = str(place / "missing.json") if content is None else write(place / "other.json", content)
    result = run(app, ["verify", file, "--root", root])
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert result.stderr.startswith(root)


def test_keys(place: Path) -> None:
    (place / "keys").mkdir()
    file = place / "keys" / "KZ.pem"
    made = run(app, ["keys", "new", "KZ", "--out", str(file)])
    key_id = Ed25519Key.from_pem(file.read_bytes()).key_id
    assert (made.exit_code, made.stdout) == (0, f"{key_id}  KZ  {file}\n")
    assert file.stat().st_mode & 0o777 == 0o600
    again = run(app, ["keys", "new", "KZ", "--out", str(file)])
    assert again.exit_code == 2
    assert "exists" in again.stderr
    assert run(app, ["keys", "new", "Kazakhstan", "--out", str(place / "x.pem")]).exit_code == 2

    write(place / "keys" / "UZ.pem", "nothing")
    os.chmod(place / "keys" / "UZ.pem", 0o644)
    shown = run(app, ["keys", "show", str(place / "keys")])
    assert shown.exit_code == 0
    assert key_id in shown.stdout
    assert "qalqan://test-1/states/KZ" in shown.stdout
    assert "not a key: " in shown.stdout
    assert "chmod 600" in shown.stdout
    assert run(app, ["keys", "show", str(place / "none")]).exit_code == 2
    assert "no key files" in run(app, ["keys"]).stderr


VOTE = {
    "request_id": "TR-2023-0001", "ballot_id": "sha256:" + "0" * 64, "round": 1, "state": "KZ", "sequence": 1,
    "position": "approve",
}  # fmt: skip


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (None, "No such file"),
        ("{", "not JSON"),
        ("type: VoteCast\ntype: VoteCast", "'type' stands twice"),
        ("type: [", ":1: "),
        ("? [a]\n: b", ""),
        ("type: !!binary aGk=", "bytes"),
        ({"data": VOTE}, "type: missing"),
        ({"type": "VoteCast"}, "data: missing"),
        ({"type": "VotCast", "data": VOTE}, "did you mean VoteCast?"),
        ({"type": "ConsensusReached", "data": VOTE}, "is not what a state submits"),
        ({"type": "VoteCast", "data": VOTE, "note": 1}, "note: unknown here"),
        (
            {"type": "VoteCast", "data": VOTE | {"position": "yes"}},
            "data.position: Input should be 'approve'",
        ),
        ({"type": "VoteCast", "data": VOTE | {"sequence": 2**53}}, "$.data.sequence: integer beyond 2^53-1"),
        ("type: VoteCast\ndata: {round: yes}", "data.round: "),
        ({"type": "qalqan.VoteCast.v1", "data": VOTE}, "run.json is not there"),
    ],
)
def test_submit_refuses(place: Path, content: Any, what: str) -> None:
    file = str(place / "missing.yaml") if content is None else write(place / "vote.yaml", content)
    result = run(app, ["submit", file, "--as", "KZ"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert what in result.stderr
    assert file in result.stderr or "run.json" in result.stderr


def test_commands() -> None:
    listed = run(app, ["--help"]).stdout
    assert all(name in listed for name in ("verify", "keys", "submit", "replay"))
    assert run(app, ["fly"]).exit_code == 2


def test_a_command_that_another_distribution_adds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    about = tmp_path / "addition-1.0.dist-info"
    about.mkdir()
    write(about / "METADATA", "Metadata-Version: 2.1\nName: addition\nVersion: 1.0\n")
    write(about / "entry_points.txt", "[qalqan.commands]\ngreet = addition:greet\n")
    write(tmp_path / "addition.py", "def greet(name: str) -> None:\n    print('salem', name)\n")
    monkeypatch.syspath_prepend(tmp_path)
    result = run(app, ["greet", "KZ"])
    assert (result.exit_code, result.stdout) == (0, "salem KZ\n")


def test_a_command_of_the_system_without_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only this package on the path of distributions, as for a stranger who installed it alone."""
    monkeypatch.setattr("sys.path", [])
    result = run(app, ["up"])
    assert result.exit_code == 2
    assert "belongs to the system itself" in result.stderr
