"""This machine: Python, disks, the runner and its processes."""

import shutil
import sys

import psutil

from deploy.local.disk import ROOM_BYTES
from deploy.local.doctor.finding import Finding, look, well, wrong
from deploy.local.doctor.system import System
from deploy.local.lock import holder

_OLDEST = (3, 11)
_ENOUGH_BYTES = 2 << 30
"""PostgreSQL's log alone may come to 1 GiB."""


async def python(_: System) -> list[Finding]:
    """Whether this Python is new enough."""
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < _OLDEST:
        return [wrong("Python", version, f"install {'.'.join(map(str, _OLDEST))} or newer")]
    return [well("Python", version)]


async def disk(system: System) -> list[Finding]:
    """Room where the home is, and where its brokers' and its database's data are."""
    folders = (folder for folder in sorted(system.home.glob("*")) if folder.name.startswith(("kafka", "postgres")))
    places = [place for place in (system.home, *folders) if place.is_dir()]
    disks = {place.stat().st_dev: place for place in reversed(places)}
    return [room(str(place), shutil.disk_usage(place).free) for place in disks.values()]


def room(place: str, free: int) -> Finding:
    """What so many free bytes mean."""
    seen = f"{free / (1 << 30):.1f} GiB are left at {place}"
    if free < ROOM_BYTES:
        return wrong("disk", seen, "free some space: nothing is lost, and all goes on by itself")
    if free < _ENOUGH_BYTES:
        return look("disk", seen, "free some space soon")
    return well("disk", seen)


async def runner(system: System) -> list[Finding]:
    """Whether somebody looks after the processes of this home; nothing to say where there is no run.json."""
    if system.run is None:
        return []
    process = holder(system.home)
    if process is None:
        remedy = "`qalqan up`: it ends what is left and starts everything"
        return [wrong("runner", "run.json is there, and nobody who keeps the system running", remedy)]
    return [well("runner", f"process {process}, network {system.run.network}")]


async def processes(system: System) -> list[Finding]:
    """Whether the processes that run.json names are there, and do not stand still."""
    return [_process(name, pid) for name, pid in (system.run.pids.items() if system.run else ())]


def _process(name: str, pid: int) -> Finding:
    what = f"process {name}"
    try:
        process = psutil.Process(pid)
        status = process.status()
        if status == psutil.STATUS_STOPPED:
            return wrong(what, f"{pid} is stopped: it has its memory and does nothing", f"`kill -CONT {pid}`")
        if status == psutil.STATUS_ZOMBIE:
            raise psutil.NoSuchProcess(pid)
        return well(what, f"{pid}, {process.memory_info().rss >> 20} MiB")
    except psutil.NoSuchProcess:
        return wrong(what, f"{pid} is gone", "the runner starts it again at once; if it does not stay, see its log")
    except psutil.AccessDenied:
        return look(what, f"{pid} is another user's", "ask as the user who runs it")
