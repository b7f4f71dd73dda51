"""A real Chromium: the one that is installed, led by Playwright."""

import contextlib
import os
import shutil
from collections.abc import AsyncIterator

from playwright.async_api import Browser, async_playwright

NAMED_BY = "QALQAN_CHROMIUM"
HOW_TO_GET_IT = (
    f"no Chromium is installed: `apt-get install chromium` (Debian; `brew install chromium` on a Mac), or name the "
    f"program of one in {NAMED_BY}"
)


def program() -> str | None:
    """The path of a Chromium: the one that is named, or one that is found; None: there is none."""
    names = [os.environ[NAMED_BY]] if os.environ.get(NAMED_BY) else ["chromium", "chromium-browser", "google-chrome"]
    return next((found for name in names if (found := shutil.which(name))), None)


@contextlib.asynccontextmanager
async def launched() -> AsyncIterator[Browser]:
    """A browser without a window. RuntimeError: there is no Chromium; the text says how to get one."""
    path = program()
    if path is None:
        raise RuntimeError(HOW_TO_GET_IT)
    # Its sandbox wants a user other than root.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=arguments)
        try:
            yield browser
        finally:
            await browser.close()
