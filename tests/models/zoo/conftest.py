"""A server of weights on this machine, and no proxy in front of it."""

from collections.abc import Iterator

import pytest

from tests.support.servers.http_server import http_server
from tests.support.servers.weights_server import WeightsServer


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WeightsServer]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = WeightsServer()
    with http_server(server.answer) as server.port:
        yield server
