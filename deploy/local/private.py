"""Files for their owner alone, and what only this home knows: the roles' passwords, the token of HTTP
readers."""

import json
import os
import secrets
from pathlib import Path
from typing import Final

TOKENS: Final = "tokens.json"
"""A home's file of readers' tokens (`qalqan token`); in production a mounted secret, which QALQAN_TOKENS names."""


def write_private(path: Path, data: bytes) -> None:
    """Write `path` whole or not at all, readable by its owner alone from the first byte on."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)


def secret(home: Path, name: str) -> str:
    """The secret of that name, made at the first call (256 bits, characters safe in a URL)."""
    path = home / "secrets.json"
    known: dict[str, str] = json.loads(path.read_bytes()) if path.exists() else {}
    if name not in known:
        known[name] = secrets.token_urlsafe(32)
        write_private(path, json.dumps(known, indent=1).encode())
    return known[name]
