"""`python -m tests.browser.screenshots`: plays a busy day through a system of its own and writes docs/page/*.png."""

import asyncio
import contextlib
import io
import logging
import tempfile
from pathlib import Path

from PIL import Image
from playwright.async_api import Browser

from deploy.local.stack import Stack
from qalqan.client import Client
from qalqan.runinfo import RunInfo
from tests.browser import scene
from tests.browser.chromium import launched
from tests.conftest import STATES

Shot = tuple[str, str, tuple[int, int], str]
"""Name, view, size, scheme."""

FOLDER = Path(__file__).parents[2] / "docs" / "page"
PAUSE_S, BUSY_S = 1.2, 6.0
DESK, PHONE = (1440, 960), (390, 1400)

SHOTS: list[Shot] = [
    ("now", "/", DESK, "light"),
    ("now-dark", "/", DESK, "dark"),
    ("request", f"/requests/{scene.EARTHQUAKE}", (1440, 1700), "light"),
    ("phone", "/", PHONE, "light"),
    ("phone-exercise", "/requests/AZ-2026-E1", PHONE, "dark"),
]
READ_MS = {"/streams": 6_000}
"""How long until what is read on a clock has been read twice."""
BUSY_SHOTS: list[Shot] = [("streams", "/streams", (1440, 1560), "dark")]


async def main() -> None:
    """Starts, plays, takes the pictures, stops."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="qalqan-page-") as home:
        stack = Stack(Path(home))
        await asyncio.to_thread(stack.start)
        try:
            run = RunInfo.load(Path(home) / "run.json")
            async with contextlib.AsyncExitStack() as clients, launched() as browser:
                states = {
                    state: await clients.enter_async_context(Client.connect(run, state=state)) for state in STATES
                }
                still_open = await scene.play(states, PAUSE_S)
                await shoot(browser, run, SHOTS)
                async with scene.busy(states, still_open):
                    await asyncio.sleep(BUSY_S)
                    await shoot(browser, run, BUSY_SHOTS)
        finally:
            await asyncio.to_thread(stack.stop)


async def shoot(browser: Browser, run: RunInfo, shots: list[Shot]) -> None:
    """Each picture, as a reader who has just signed in sees it."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, path, (width, height), scheme in shots:
        context = await browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if scheme == "dark" else "light",
            reduced_motion="reduce",
        )
        page = await context.new_page()
        await page.goto(f"{run.dashboard}/#token={run.token}&{path}")
        await page.locator("main h1").wait_for()
        await page.wait_for_timeout(READ_MS.get(path, 1_500))
        picture = await page.screenshot()
        while await page.locator(".loud").count():  # Kafka was too busy to tell for a moment
            await page.wait_for_timeout(1_000)
            picture = await page.screenshot()
        small(picture).save(FOLDER / f"{name}.png", optimize=True)
        await context.close()


def small(png: bytes) -> Image.Image:
    """The picture with as many colours as it has tones: a third of the bytes, and nobody sees it."""
    return (
        Image.open(io.BytesIO(png))
        .convert("RGB")
        .quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=3, dither=Image.Dither.NONE)
    )


if __name__ == "__main__":
    asyncio.run(main())
