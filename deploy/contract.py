"""OpenAPI of each service, for `qalqan contract export`: made from its routes, nothing runs."""

import asyncio
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import asyncpg

from chassis.settings import Settings
from deploy.local.roles import SERVICES
from qalqan.access import Access
from qalqan.registry import Root
from qalqan.signing import Ed25519Key

NOWHERE = "127.0.0.1:0"


def documents() -> dict[str, dict[str, Any]]:
    """`openapi/<service>.json` of each service."""
    with TemporaryDirectory() as folder:
        return asyncio.run(_documents(_settings(Path(folder))))


async def _documents(settings: Settings) -> dict[str, dict[str, Any]]:
    pool = asyncpg.create_pool(f"postgresql://{NOWHERE}")  # connects when it is awaited, which it is not
    services = {name: import_module(f"services.{name}.main").build(settings) for name in SERVICES}
    return {f"openapi/{name}.json": service.document(pool) for name, service in services.items()}


def _settings(folder: Path) -> Settings:
    """Of a network that is none, whatever the environment says."""
    root, key = folder / "root.json", folder / "key.pem"
    root.write_text(Root(network="none", keys=[]).model_dump_json())
    key.write_bytes(Ed25519Key.generate().to_pem())
    return Settings.model_construct(
        kafka=Access(bootstrap_servers=NOWHERE), database="", root=root, key=key, replica="contract"
    )
