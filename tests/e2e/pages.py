"""Pages of documentation whose code is run exactly as it is printed.

In a page a fenced block of `sh` is run, all of a page in one shell, one after the other, in an empty folder. One with a
name behind the language (`sh sign.sh`) is saved under that name first. `needs=kcat` is run where there is that program.
Blocks of other languages without a name are what comes out, and what is only told.
"""

import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(r"^```(\w+)(?: ([^\n]+))?\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Page:
    """The files and the commands of a page."""

    files: Mapping[str, str]
    script: str

    @classmethod
    def read(cls, path: Path) -> "Page":
        """What a Markdown file has."""
        files: dict[str, str] = {}
        commands: list[str] = []
        for language, note, code in _BLOCK.findall(path.read_text("utf-8")):
            needed = note.removeprefix("needs=") if note.startswith("needs=") else None
            if note and needed is None:
                assert note not in files, f"{path}: {note} twice"
                files[note] = code
            elif language == "sh" and (needed is None or shutil.which(needed)):
                commands.append(code)
        assert commands, f"{path}: no commands"
        return cls(files, "\n".join(commands))

    def run(self, folder: Path, environment: Mapping[str, str]) -> str:
        """Runs it all; what was printed. AssertionError: a command failed."""
        for name, content in self.files.items():
            (folder / name).write_text(content, encoding="utf-8")
        done = subprocess.run(
            ["sh", "-eu"],
            input=self.script,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout[-2_000:]}\n{done.stderr[-2_000:]}"
        return done.stdout
