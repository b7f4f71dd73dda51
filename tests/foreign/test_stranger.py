"""The clients have no code of ours."""

import ast
from pathlib import Path

HERE = Path(__file__).parent
OURS = {"qalqan", "chassis", "services", "deploy"}


def test_the_clients_import_nothing_of_ours() -> None:
    clients = [path for path in HERE.glob("*.py") if not path.name.startswith("test_")]
    assert len(clients) > 3
    for path in clients:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.partition(".")[0] for name in names} & OURS, path.name
