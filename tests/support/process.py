"""Programs of their own: any of this interpreter's, and the server."""

import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading

import httpx

from tests.support.served import ROOT


def python(program: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program in an interpreter of its own."""
    command = [sys.executable, "-c", program, *arguments]
    environment = {**os.environ, **environment}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)


def closed_port() -> int:
    """A port of this machine that nobody listens to."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class Program:
    """The server as a process of its own: `serve` with a FakeDetector."""

    command = ("-m", "tests.support.program")

    def __init__(self, *arguments: str, **settings: str) -> None:
        environment = {
            **os.environ,
            "RCNN_PORT": "0",
            **{f"RCNN_{key}".upper(): value for key, value in settings.items()},
        }
        self.process = subprocess.Popen(
            [sys.executable, *self.command, *arguments],
            cwd=ROOT,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._certificate = settings.get("tls_cert")
        self._client: httpx.Client | None = None
        self._making_client = threading.Lock()
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def url(self) -> str:
        return self.logged(r"listening on (https?://[\d.]+:\d+)")[1]

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def client(self) -> httpx.Client:
        """A client of the program, for any number of threads."""
        with self._making_client:
            if self._client is None:
                trusted = ssl.create_default_context(cafile=self._certificate)
                self._client = httpx.Client(base_url=self.url, timeout=30, verify=trusted)
            return self._client

    @property
    def log(self) -> str:
        return "".join(self._lines)

    def logged(self, pattern: str, seconds: float = 30.0) -> re.Match[str]:
        """Wait for a log line that the pattern is found in."""
        found: list[re.Match[str]] = []

        def seen() -> bool:
            found.extend(match for line in self._lines if (match := re.search(pattern, line)))
            return bool(found) or not self._reader.is_alive()

        with self._changed:
            self._changed.wait_for(seen, seconds)
        assert found, f"no line with {pattern!r} in:\n{self.log}"
        return found[0]

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def ended(self, seconds: float = 30.0) -> int:
        """Wait for the end; the exit code."""
        code = self.process.wait(seconds)
        self._reader.join(seconds)
        return code

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.ended()
        if self._client is not None:
            self._client.close()
        assert self.process.stderr is not None
        self.process.stderr.close()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._changed:
                self._lines.append(line)
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()
