"""Three brokers that know whom they speak with: TLS, SCRAM and Kafka's own authorizer.

Each node is broker and controller at once, which is enough on one machine; in production the controllers stand apart.
It has three listeners: CLIENT for services and states (TLS, and SCRAM-SHA-512 for who they are), BROKER for the nodes
among themselves and for the runner's admin, CONTROLLER for the quorum (TLS with a certificate on both sides). SCRAM
rather than PLAIN: no broker ever holds or sees a password, and a user is made or renewed while all of them run.
"""

import hashlib
import ssl
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from pathlib import Path

from deploy.local import kafka
from deploy.local.ports import LOOPBACK
from deploy.local.private import secret
from deploy.local.process import Program
from deploy.local.tls import Authority
from qalqan.access import Access, Mechanism
from qalqan.runinfo import KafkaSecurity

NODES = (1, 2, 3)
PORTS_A_NODE = 3
ADMIN = "admin"
MECHANISM: Mechanism = "SCRAM-SHA-512"
_HEAP = "-Xmx320m"

_OPTIONS = """\
process.roles=broker,controller
node.id={node}
controller.quorum.voters={voters}
listeners=CLIENT://{host}:{client},BROKER://{host}:{broker},CONTROLLER://{host}:{controller}
advertised.listeners=CLIENT://{host}:{client},BROKER://{host}:{broker}
controller.listener.names=CONTROLLER
inter.broker.listener.name=BROKER
listener.security.protocol.map=CLIENT:SASL_SSL,BROKER:SSL,CONTROLLER:SSL
# Whom they are, to each other and to clients.
ssl.keystore.type=PEM
ssl.keystore.location={certificate}
ssl.truststore.type=PEM
ssl.truststore.location={authority}
ssl.enabled.protocols=TLSv1.3
listener.name.broker.ssl.client.auth=required
listener.name.controller.ssl.client.auth=required
ssl.principal.mapping.rules=RULE:^CN=([^,]+)$/$1/
sasl.enabled.mechanisms={mechanism}
listener.name.client.{mechanism_option}.sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required;
# Who may do what: `acls`, and nothing else. The nodes must be super users: a controller cannot ask the log who may
# bring it the log.
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=false
super.users={super_users}
# What was acknowledged is on two nodes at least, Kafka's own topics included.
default.replication.factor=3
min.insync.replicas=2
unclean.leader.election.enable=false
offsets.topic.replication.factor=3
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
share.coordinator.state.topic.replication.factor=3
share.coordinator.state.topic.min.isr=2
# All three are stopped together. Asked one by one, the last would wait for a quorum that is gone.
controlled.shutdown.enable=false
# Two cores carry all three: one that was only slow must not be taken for dead.
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
num.network.threads=2
num.io.threads=4
"""


class Cluster:
    """The three brokers of a home, under `home/kafka-1` and so on; keys and certificates under `home/tls`.

    `ports`: nine. Raises CannotStart when the disk is full.
    """

    def __init__(self, home: Path, ports: Sequence[int]) -> None:
        self._home = home
        self._ports = {node: tuple(ports[(node - 1) * PORTS_A_NODE :][:PORTS_A_NODE]) for node in NODES}
        self._authority = Authority(home / "tls")
        self._ca = str(self._authority.certificate_file)
        self._admin = str(self._authority.issue(ADMIN))
        self.bootstrap = ",".join(f"{LOOPBACK}:{client}" for client, _, _ in self._ports.values())
        """Of clients."""

    def programs(self, jars: Sequence[Path], cache: Path) -> list[Program]:
        """The nodes. None becomes ready before a second one runs: they elect a leader first."""
        # Kafka's form of an id: 16 bytes in base64. All three are formatted with the same.
        digest = hashlib.sha256(secret(self._home, "kafka.cluster").encode()).digest()
        cluster = urlsafe_b64encode(b"\x01" + digest[:15]).decode().rstrip("=")
        tls = ssl.create_default_context(cafile=self._ca)
        return [
            kafka.node(
                name_of(node),
                self._home,
                jars,
                cache,
                self._options(node),
                cluster,
                answers=lambda port=self._ports[node][0]: kafka.answers(port, tls),  # type: ignore[misc]
                heap=_HEAP,
                makes_aot=node == NODES[0],
            )
            for node in NODES
        ]

    def _options(self, node: int) -> str:
        client, broker, controller = self._ports[node]
        names = [*(_certificate_name(number) for number in NODES), ADMIN]
        return _OPTIONS.format(
            node=node,
            voters=",".join(f"{number}@{LOOPBACK}:{ports[2]}" for number, ports in self._ports.items()),
            host=LOOPBACK,
            client=client,
            broker=broker,
            controller=controller,
            certificate=self._authority.issue(_certificate_name(node)),
            authority=self._ca,
            mechanism=MECHANISM,
            mechanism_option=MECHANISM.lower(),
            super_users=";".join(f"User:{name}" for name in names),
        )

    def admin(self) -> Access:
        """The runner's own access, by its certificate: the one super user beside the nodes."""
        return Access(
            bootstrap_servers=",".join(f"{LOOPBACK}:{broker}" for _, broker, _ in self._ports.values()),
            security_protocol="SSL",
            ssl_cafile=self._ca,
            ssl_certfile=self._admin,
        )

    def user(self, name: str, password: str) -> Access:
        """The access of a service or a state."""
        return Access(
            bootstrap_servers=self.bootstrap,
            security_protocol="SASL_SSL",
            ssl_cafile=self._ca,
            sasl_mechanism=MECHANISM,
            sasl_username=name,
            sasl_password=password,
        )

    def security(self, passwords: Path) -> KafkaSecurity:
        """What run.json says of it."""
        return KafkaSecurity(protocol="SASL_SSL", mechanism=MECHANISM, ca=self._ca, passwords=str(passwords))


def name_of(node: int) -> str:
    """A node's process, folder and log."""
    return f"kafka-{node}"


def _certificate_name(node: int) -> str:
    return f"broker-{node}"
