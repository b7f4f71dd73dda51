"""How a client reaches Kafka: what the environment says becomes the options of every client, and back."""

import asyncio
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import ValidationError

from deploy.local.ports import LOOPBACK
from deploy.local.tls import Authority
from qalqan.access import VARIABLES, Access
from qalqan.runinfo import NotRunning, RunInfo


def test_an_address_alone_asks_for_nothing_else() -> None:
    access = Access.of({"KAFKA_BOOTSTRAP_SERVERS": "one:9092,two:9092", "KAFKA_SASL_USERNAME": ""})
    assert access.options() == {"bootstrap_servers": "one:9092,two:9092"}
    assert {name for name, value in access.environment().items() if value is None} >= {"KAFKA_SASL_USERNAME"}


def test_the_environment_comes_back_as_it_was() -> None:
    given = {name: f"a {field}" for field, name in VARIABLES.items()}
    given |= {"KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "KAFKA_SASL_MECHANISM": "PLAIN"}
    access = Access.of(given)
    assert access.environment() == given
    assert "a sasl_password" not in repr(access)


@pytest.mark.parametrize("variable", ["KAFKA_SECURITY_PROTOCOL", "KAFKA_SASL_MECHANISM"])
def test_what_kafka_does_not_know_is_refused(variable: str) -> None:
    with pytest.raises(ValidationError):
        Access.of({"KAFKA_BOOTSTRAP_SERVERS": "one:9092", variable: "NONE"})


def test_options_trust_the_authority_named_and_no_other(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "tls")
    own = authority.issue("somebody")
    access = Access(
        bootstrap_servers="one:9092",
        security_protocol="SASL_SSL",
        ssl_cafile=str(authority.certificate_file),
        ssl_certfile=str(own),
        sasl_username="KZ",
        sasl_password="secret",
    )
    options = access.options()
    context = options.pop("ssl_context")
    assert options == {
        "bootstrap_servers": "one:9092",
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "KZ",
        "sasl_plain_password": "secret",
    }
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert [dict(part[0] for part in ca["subject"]) for ca in context.get_ca_certs()] == [
        {"commonName": f"Qalqan development {tmp_path.name}"}
    ]


def test_a_missing_file_is_named() -> None:
    access = Access(bootstrap_servers="one:9092", security_protocol="SSL", ssl_cafile="/nowhere/ca.pem")
    with pytest.raises(ValueError, match=r"/nowhere/ca\.pem"):
        access.options()


async def test_a_connection_is_closed_though_the_other_side_says_no_goodbye(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "tls")
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    serving.load_cert_chain(authority.issue("broker"))
    access = Access(bootstrap_servers="one:9092", security_protocol="SSL", ssl_cafile=str(authority.certificate_file))
    with socket.create_server((LOOPBACK, 0)) as listening, ThreadPoolExecutor(1) as pool:
        accepted = pool.submit(lambda: serving.wrap_socket(listening.accept()[0], server_side=True))
        port = listening.getsockname()[1]
        _, writer = await asyncio.open_connection(LOOPBACK, port, ssl=access.options()["ssl_context"])
        with accepted.result() as silent:  # it has shaken hands and reads nothing
            writer.write(b"a request")
            writer.close()
            await asyncio.wait_for(writer.wait_closed(), 5.0)
            assert silent.recv(100) == b"a request"
            assert silent.recv(100) == b""  # our goodbye has come


def test_run_json_gives_each_its_own_password(tmp_path: Path) -> None:
    (tmp_path / "KZ").write_text("of KZ")
    security = {"protocol": "SASL_SSL", "mechanism": "SCRAM-SHA-512", "ca": "ca.pem", "passwords": str(tmp_path)}
    told = {"network": "dev", "kafka": "one:9092", "root": "root.json", "keys": "keys"}
    assert RunInfo.model_validate(told).access("KZ") == Access(bootstrap_servers="one:9092")
    secured = RunInfo.model_validate(told | {"kafka_security": security})
    assert (secured.access("KZ").sasl_username, secured.access("KZ").sasl_password) == ("KZ", "of KZ")
    with pytest.raises(NotRunning, match="password of reader"):
        secured.access()
