"""Fixtures: one Chromium for all tests of the page, and what opens the page in it."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.support.chromium import CHROMIUM, Show, chromium, pages


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """A Chromium. It ends with this folder: no test on asyncio can run in a process beside it."""
    if not CHROMIUM.exists():
        pytest.skip(f"there is no Chromium at {CHROMIUM}")
    with chromium() as browser:
        yield browser


@pytest.fixture
def show(browser: Browser) -> Iterator[Show]:
    """What opens the page, see `tests.support.chromium.pages`."""
    with pages(browser) as show:
        yield show
