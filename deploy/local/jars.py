"""Apache Kafka's own jars: fetched once, through jgo, and checked against `kafka-jars.lock` at every start.

`python -m deploy.local.jars` fetches and checks them; with `--lock` it resolves them anew and rewrites the
lock. Nothing here needs Maven, and nothing here needs Java.
"""

import argparse
import contextlib
import hashlib
import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from deploy.local.errors import CannotStart, explain

LOCK = Path(__file__).with_name("kafka-jars.lock")
ROOT = "org.apache.kafka:kafka_2.13:4.3.1"
# The server logs through slf4j 1.7 and its POM leaves the binding to the distribution. Taken alone, without
# its own POM's management of versions, which would take Jackson back to an older release. Its version is that
# of log4j-core.
BINDING = "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4"
PARALLEL_DOWNLOADS = 8

_HEADER = """\
# The jars that the embedded broker runs on. A jar that differs is refused.
# Made by `python -m deploy.local.jars --lock`: coordinate, file, bytes, SHA-256.
"""


@dataclass(frozen=True, slots=True)
class Jar:
    """One line of the lock: Maven coordinate (`group:artifact:version`), file name, bytes, hex SHA-256."""

    coordinate: str
    file: str
    size_bytes: int
    sha256: str


def cache_dir() -> Path:
    """Where downloads are kept between runs: QALQAN_CACHE, or the user's cache directory."""
    return Path(os.environ.get("QALQAN_CACHE") or platformdirs.user_cache_dir("qalqan")).absolute()


def read_lock(lock: Path = LOCK) -> list[Jar]:
    """The jars of the lock, in classpath order."""
    lines = (line for line in lock.read_text(encoding="utf-8").splitlines() if line and line[0] != "#")
    return [Jar(coordinate, file, int(size), sha256) for coordinate, file, size, sha256 in map(str.split, lines)]


def kafka_jars(cache: Path | None = None, lock: Path = LOCK, console: Console | None = None) -> list[Path]:
    """The classpath of the broker: every jar of `lock`, fetched if it is not in `cache`, checked in any case.

    With the cache full no network is touched. Raises CannotStart, naming the jar, when one differs from the
    lock, and when the network or the disk is missing.
    """
    jars = read_lock(lock)
    directory = (cache or cache_dir()) / "kafka"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        missing = [jar for jar in jars if not (directory / jar.file).exists()]
        if missing:
            _fetch(missing, directory, console or Console(stderr=True))
        with ThreadPoolExecutor(2) as pool:  # hashing releases the GIL
            list(pool.map(lambda jar: _check(jar, directory / jar.file), jars))
    except OSError as error:
        raise explain(error, "reading Kafka's jars") from error
    return [directory / jar.file for jar in jars]


def _check(jar: Jar, path: Path) -> None:
    with path.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if actual != jar.sha256:
        raise CannotStart(
            f"The jar {path} is refused: {jar.coordinate} has the SHA-256 {actual}, not {jar.sha256} as "
            "locked; remove the file to fetch it anew, and if it differs again, ask where it comes from."
        )


def _fetch(jars: list[Jar], directory: Path, console: Console) -> None:
    """Fetch `jars`; each appears in `directory` whole and checked, or not at all."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with (
        tempfile.TemporaryDirectory(prefix="fetch-", dir=directory) as stage,
        Progress(*columns, console=console) as progress,
        ThreadPoolExecutor(PARALLEL_DOWNLOADS) as pool,
    ):
        task = progress.add_task("Fetching Apache Kafka (once)", total=sum(jar.size_bytes for jar in jars))
        context = _maven(Path(stage), lambda count: progress.advance(task, count))

        def fetch(jar: Jar) -> None:
            path = _download(context, jar.coordinate)
            _check(jar, path)
            os.replace(path, directory / jar.file)

        try:
            list(pool.map(fetch, jars))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _maven(repository: Path, advance: Callable[[int], object]) -> Any:
    """jgo's resolver over the repositories of the user's own jgo settings, else its default one."""
    from jgo.config import GlobalSettings
    from jgo.maven import MavenContext, PythonResolver

    logging.getLogger("jgo").setLevel(logging.ERROR)

    @contextlib.contextmanager
    def progress(_file: str, _total: int) -> Iterator[Callable[[int], object]]:
        yield advance

    resolver = PythonResolver(progress_callback=progress)  # type: ignore[arg-type]
    return MavenContext(
        resolver=resolver,
        repo_cache=repository,
        remote_repos=GlobalSettings.load().repositories or None,
        timeout=30,
    )


def _download(context: Any, coordinate: str) -> Path:
    import requests  # jgo's own client

    try:
        return Path(context.create_dependency(coordinate).artifact.resolve())
    except (requests.RequestException, RuntimeError) as error:
        raise CannotStart(
            f"Kafka's jar {coordinate} could not be fetched ({type(error).__name__}): check the network or "
            "the proxy (HTTPS_PROXY) and start again; it is needed once."
        ) from error


def write_lock(lock: Path = LOCK) -> list[Jar]:
    """Resolve ROOT anew, fetch every jar and write the lock."""
    with tempfile.TemporaryDirectory() as stage:
        context = _maven(Path(stage), lambda _count: None)
        found, transitive = context.resolver.resolve([context.create_dependency(ROOT)])
        needed = [item for item in transitive if item.scope in ("compile", "runtime")]
        artifacts = {
            f"{item.groupId}:{item.artifactId}:{item.version}": item.artifact
            for item in (*found, *needed, context.create_dependency(BINDING))
        }
        with ThreadPoolExecutor(PARALLEL_DOWNLOADS) as pool:
            paths = list(pool.map(lambda artifact: Path(artifact.resolve()), artifacts.values()))
        jars = [
            Jar(coordinate, path.name, path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())
            for coordinate, path in zip(artifacts, paths, strict=True)
        ]
    jars.sort(key=lambda jar: jar.coordinate)
    lines = (f"{jar.coordinate} {jar.file} {jar.size_bytes} {jar.sha256}\n" for jar in jars)
    lock.write_text(_HEADER + "".join(lines), encoding="utf-8")
    return jars


def main() -> None:
    """Fetch and check the jars, or with `--lock` rewrite the lock."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lock", action="store_true", help="resolve the jars anew and rewrite the lock")
    if parser.parse_args().lock:
        jars = write_lock()
    else:
        kafka_jars()
        jars = read_lock()
    print(f"{len(jars)} jars, {sum(jar.size_bytes for jar in jars) / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
