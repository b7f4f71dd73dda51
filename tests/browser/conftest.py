"""One browser for all tests of the page; each test gets a window of its own, which must stay without a fault."""

import contextlib
import os
from collections.abc import AsyncIterator
from typing import Protocol

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from qalqan.runinfo import RunInfo
from tests.browser import chromium

DESK, PHONE = (1280, 900), (390, 844)
_PATIENCE_MS = 20_000
_WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) =>
    window.violations.push(`${event.violatedDirective}: ${event.blockedURI} ${event.sample}`));
"""

expect.set_options(timeout=_PATIENCE_MS)


class Open(Protocol):
    """Opens the page at a view, signed in, in a window of a size; `token`: another than the Secretariat's, or none."""

    async def __call__(
        self, view: str = "/", *, size: tuple[int, int] = DESK, token: str | None = "", dark: bool = False
    ) -> Page: ...


@pytest_asyncio.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    """Chromium. Where there is none the tests are skipped, saying how to get it; one that is named must be there."""
    if chromium.program() is None:
        say = pytest.fail if os.environ.get(chromium.NAMED_BY) else pytest.skip
        say(f"the page is not tested: {chromium.HOW_TO_GET_IT}")
    async with chromium.launched() as launched:
        yield launched


@pytest_asyncio.fixture
async def open_page(browser: Browser, run: RunInfo) -> AsyncIterator[Open]:
    """Opens windows; afterwards no script has failed in any, no dialog was shown and no policy was violated."""
    faults: list[str] = []
    async with contextlib.AsyncExitStack() as stack:
        pages: list[Page] = []

        async def opened(
            view: str = "/", *, size: tuple[int, int] = DESK, token: str | None = "", dark: bool = False
        ) -> Page:
            width, height = size
            context = await browser.new_context(
                viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light"
            )
            stack.push_async_callback(context.close)
            context.set_default_timeout(_PATIENCE_MS)
            await context.add_init_script(_WATCH)
            page = await context.new_page()
            page.on("pageerror", lambda error: faults.append(f"a script failed: {error.stack}"))
            page.on("dialog", lambda dialog: faults.append(f"a dialog: {dialog.message}"))
            shown = run.token if token == "" else token
            await page.goto(f"{run.dashboard}/#" + (view if shown is None else f"token={shown}&{view}"))
            pages.append(page)
            return page

        yield opened
        for page in pages:
            faults += await page.evaluate("window.violations")
    assert faults == []
