"""The page's files: how they are served, what they weigh, and that every word of theirs is in one place."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import httpx2
import pytest

from qalqan.runinfo import RunInfo
from services.notify.api.page import FOLDER

MODULES = sorted(FOLDER.glob("*.js"))
FILES = sorted(path.name for path in FOLDER.iterdir())
ROOT = Path(__file__).parents[2]
_WEIGHT_BYTES = 250_000


async def test_everything_is_served_open_strict_and_once(run: RunInfo) -> None:
    """No token is asked for; types, policy and ETag are right; all of it weighs little; nothing else has a way out."""
    weight = 0
    async with httpx2.AsyncClient(base_url=run.dashboard or "", timeout=20) as http:
        for path in ["/", *(f"/page/{name}" for name in FILES)]:
            answer = await http.get(path)
            assert answer.status_code == 200
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "no-referrer"
            kind = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}.get(path.rpartition(".")[2])
            assert answer.headers["content-type"].split(";")[0] == (kind or "text/html")
            again = await http.get(path, headers={"If-None-Match": answer.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")
            plain = await http.get(path, headers={"Accept-Encoding": "identity"})
            assert plain.content == answer.content
            assert "content-encoding" not in plain.headers
            assert plain.headers["etag"] != answer.headers["etag"]
            weight += len(plain.content)
        for path in ("/page/nothing.js", "/page/../api/page.py", "/page/%2e%2e%2fapi%2fpage.py", "/page/"):
            assert (await http.get(path)).status_code == 404
    assert weight <= _WEIGHT_BYTES


def test_every_module_is_asked_for_at_once() -> None:
    """What index.html does not name is only found when another module has come: one round trip later."""
    index = (FOLDER / "index.html").read_text()
    named = set(re.findall(r'/page/(\w+\.js)"', index))
    assert named == {path.name for path in MODULES}


@pytest.mark.parametrize("module", [path for path in MODULES if path.name != "strings.js"], ids=lambda path: path.name)
def test_words_stand_in_one_module(module: Path) -> None:
    """Keys that are used exist, and no other text is made of words that people read."""
    text = re.sub(r"^\s*(//|/\*\*|\*).*$", "", module.read_text(), flags=re.MULTILINE)
    known = set(re.findall(r'^  "?([\w.-]+)"?:', (FOLDER / "strings.js").read_text(), re.MULTILINE))
    used = set(re.findall(r'\b(?:t|parts)\(\s*"([^"]+)"', text))
    assert used <= known, f"{module.name} uses words that are not there: {used - known}"
    said = re.findall(r'"([A-Z][a-z]+ [a-z][^"]*)"', text) + re.findall(r"`([A-Z][a-z]+ [a-z][^`]*)`", text)
    assert said == [], f"{module.name} says something itself: {said}"


def test_nothing_puts_markup_into_the_page() -> None:
    """Text becomes text nodes: no property and no function that takes HTML is even named."""
    for path in MODULES:
        for name in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "DOMParser", "eval(", "srcdoc"):
            assert name not in path.read_text(), f"{path.name} uses {name}"


def test_an_installed_package_has_the_page(tmp_path: Path) -> None:
    """The wheel holds every file: a page that is served from a checkout alone is no page."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=60)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {f"services/notify/page/{name}" for name in FILES} <= set(names)
