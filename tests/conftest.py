"""Fixtures: the real app with a detector at the seam, or the real program on a socket."""

import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from tests.support.process import Program
from tests.support.served import ROOT, Serve, Served, serve_app

# The folder says what a test needs; a file or a test may say more by a mark of its own.
FOLDERS = {"process": "process", "deploy": "process", "page": "browser", "bench": "bench"}


LONG = ("network", "slow", "process", "browser", "bench")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test by its folder and fixtures, for `make test-fast`; files with long tests go first.

    One that begins last keeps one worker busy while the other has nothing to do.
    """
    for item in items:
        folder = item.path.relative_to(ROOT / "tests").parts[0]
        if folder in FOLDERS:
            item.add_marker(FOLDERS[folder])
        if {"start", "program"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("process")
    long = {item.path for item in items if any(item.get_closest_marker(name) for name in LONG)}
    items.sort(key=lambda item: item.path not in long)


@pytest.fixture(autouse=True)
def _torchs_threads_as_before() -> Iterator[None]:
    """An engine sets them for the whole process; the tests after it would learn with one."""
    before = sys.modules["torch"].get_num_threads() if "torch" in sys.modules else None
    yield
    if before is not None:
        sys.modules["torch"].set_num_threads(before)


@pytest.fixture(autouse=True)
def _no_handler_for_ended_children(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's DataLoader leaves its handler of SIGCHLD behind, and OpenVINO a freed signal stack.

    With both in one process the next child that ends would kill the process: also one of this test.
    """
    if (data := sys.modules.get("torch.utils.data._utils.signal_handling")) is not None:
        monkeypatch.setattr(data, "_set_SIGCHLD_handler", lambda: None)
    if signal.getsignal(signal.SIGCHLD) is not signal.SIG_DFL:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


@pytest.fixture
def serve() -> Serve:
    """Start the app: `async with serve(detector, max_queue=4) as served`."""
    return serve_app


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    """The app with default settings and a detector that answers at once."""
    async with serve_app() as served:
        yield served


@pytest.fixture
def start() -> Iterator[Callable[..., Program]]:
    """Start the program: `start("--seconds", "0.2", max_queue="4")`; it is killed at the end of the test."""
    programs: list[Program] = []

    def start(*arguments: str, **settings: str) -> Program:
        programs.append(Program(*arguments, **settings))
        return programs[-1]

    yield start
    for program in programs:
        program.close()


@pytest.fixture(scope="module")
def program() -> Iterator[Program]:
    """One program for the tests of a module that leave it as they found it; it is ready."""
    program = Program(max_body_bytes="20000", max_pixels="1000000")
    program.logged("ready")
    yield program
    program.terminate()
    assert program.ended() == 0
    program.close()
