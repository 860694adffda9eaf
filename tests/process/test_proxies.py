"""The recipes of docs/proxies.md in front of two servers, each with what it needs; and a rolling restart."""

import io
import json
import os
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from getpass import getuser
from pathlib import Path

import httpx
import numpy as np
import pytest
import yaml
from PIL import Image as pillow
from websockets.sync.client import connect

from tests.support.data.moving import animation
from tests.support.fakes import picture
from tests.support.process import Program, closed_port
from tests.support.served import ROOT
from tests.support.servers.certificates import Pair, make_pair, needs_openssl

pytestmark = needs_openssl
PAGE = (ROOT / "docs/proxies.md").read_text()
NAME = "detect.example.org"
PROGRAMS = {"nginx": "nginx", "HAProxy": "haproxy", "Caddy": "caddy"}
PATH = os.environ.get("PATH", "") + ":/usr/sbin"
PACE_SECONDS = 0.02  # between two requests of a client, so that the servers have time to start
NGINX = """
user {user}; daemon off; pid {folder}/pid; error_log {folder}/log; worker_processes 1;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
    uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    {recipe}
}}
"""


def recipe(heading: str) -> str:
    """The configuration below a heading of the page."""
    found = re.search(rf"^## {heading}\n.*?```\w+\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE)
    assert found, heading
    return found[1]


@dataclass
class Fleet:
    """Two servers, set up as the page says."""

    ports: list[int] = field(default_factory=lambda: [closed_port(), closed_port()])
    programs: list[Program] = field(default_factory=list)

    def start(self, port: int) -> Program:
        return Program(port=str(port), listen="ready", linger_seconds="4", allowed_hosts=f"{NAME},127.0.0.1")

    def restart(self, index: int) -> None:
        """Stop a server, and start it again."""
        old = self.programs[index]
        old.terminate()
        assert old.ended() == 0
        assert "Traceback" not in old.log
        old.close()
        self.programs[index] = self.start(self.ports[index])
        self.programs[index].logged("ready .* after")


@dataclass(frozen=True)
class Proxy:
    """A proxy that runs, and a client's way to it."""

    process: "subprocess.Popen[bytes]"
    output: Path
    port: int
    pair: Pair | None  # its certificate

    @property
    def origin(self) -> str:
        return f"{'http' if self.pair is None else 'https'}://{NAME}:{self.port}"

    def client(self) -> httpx.Client:
        url = self.origin.replace(NAME, "127.0.0.1")
        verify = True if self.pair is None else self.pair.trusting
        return httpx.Client(base_url=url, headers={"Host": NAME}, timeout=30, verify=verify)


def run_nginx(folder: Path, port: int, text: str, pair: Pair) -> list[str]:
    """The command that starts nginx."""
    text = text.replace("listen 443", f"listen 127.0.0.1:{port}")
    text = text.replace("/etc/ssl/detect.pem", str(pair.cert)).replace("/etc/ssl/detect.key", str(pair.key))
    (folder / "conf").write_text(NGINX.format(user=getuser(), folder=folder, recipe=text))
    return ["nginx", "-p", str(folder), "-c", str(folder / "conf")]


def run_haproxy(folder: Path, port: int, text: str, pair: Pair) -> list[str]:
    """The command that starts HAProxy."""
    (folder / "both.pem").write_text(pair.cert.read_text() + pair.key.read_text())
    text = text.replace("bind :443", f"bind 127.0.0.1:{port}")
    (folder / "conf").write_text(text.replace("/etc/haproxy/detect.pem", str(folder / "both.pem")))
    return ["haproxy", "-db", "-f", str(folder / "conf")]


def run_caddy(folder: Path, port: int, text: str, _: Pair) -> list[str]:
    """The command that starts Caddy; without TLS, as it would ask for a certificate."""
    assert text.startswith(f"{NAME} {{\n")
    text = text.replace(f"{NAME} {{\n", f"http://{NAME}:{port} {{\n    bind 127.0.0.1\n", 1)
    (folder / "conf").write_text("{\n    admin off\n}\n" + text)
    return ["caddy", "run", "--adapter", "caddyfile", "--config", str(folder / "conf")]


RUN: dict[str, Callable[[Path, int, str, Pair], list[str]]] = {
    "nginx": run_nginx,
    "HAProxy": run_haproxy,
    "Caddy": run_caddy,
}


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    fleet = Fleet()
    fleet.programs = [fleet.start(port) for port in fleet.ports]
    for program in fleet.programs:
        program.logged("ready .* after")
    yield fleet
    for program in fleet.programs:
        program.close()


@pytest.fixture(scope="module")
def proxies(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Proxy]]:
    """Those that are installed here."""
    pair, running = make_pair(tmp_path_factory.mktemp("tls")), dict[str, Proxy]()
    for name, program in PROGRAMS.items():
        if shutil.which(program, path=PATH):
            running[name] = _started(name, fleet, tmp_path_factory.mktemp(program), pair)
    try:
        for proxy in running.values():
            _wait_for(proxy)
        yield running
    finally:
        for proxy in running.values():
            proxy.process.terminate()
            proxy.process.wait(30)


def _started(name: str, fleet: Fleet, folder: Path, pair: Pair) -> Proxy:
    port, text = closed_port(), recipe(name).replace(" 1s", " 400ms")  # between two looks at a server
    for written, real in zip(("127.0.0.1:8001", "127.0.0.1:8002"), fleet.ports, strict=True):
        assert text.count(written) == 1
        text = text.replace(written, f"127.0.0.1:{real}")
    command = RUN[name](folder, port, text, pair)
    environment = {**os.environ, "PATH": PATH, "HOME": str(folder), "XDG_DATA_HOME": str(folder)}
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    return Proxy(process, folder / "output", port, None if name == "Caddy" else pair)


def _wait_for(proxy: Proxy) -> None:
    transport = httpx.HTTPTransport(retries=6, verify=proxy.pair.trusting if proxy.pair else True)
    with httpx.Client(transport=transport, headers={"Host": NAME}) as client:
        url = proxy.origin.replace(NAME, "127.0.0.1")
        assert proxy.process.poll() is None, proxy.output.read_text()
        assert client.get(f"{url}/health/ready").status_code == 200, proxy.output.read_text()


@pytest.mark.parametrize("name", PROGRAMS)
def test_page_docs_streams_and_web_socket(name: str, proxies: dict[str, Proxy]) -> None:
    if name not in proxies:
        pytest.skip(f"needs the program {PROGRAMS[name]}")
    proxy = proxies[name]
    with proxy.client() as client:
        for path in ("/", "/web/app.js", "/docs", "/openapi.json", "/health/ready", "/metrics"):
            assert client.get(path, headers={"Accept": "text/html, */*"}).status_code == 200, path
        assert client.post("/detect", files={"image": picture()}).json()["names"]
        lines = client.post("/detect/stream", content=animation()).text.splitlines()
        assert json.loads(lines[-1])["end"] == "complete"
    address = proxy.origin.replace("http", "ws") + "/detect/live"
    tls = {} if proxy.pair is None else {"ssl": proxy.pair.trusting, "server_hostname": "localhost"}
    end = socket.create_connection(("127.0.0.1", proxy.port), timeout=30)
    with connect(address, sock=end, origin=proxy.origin, **tls) as live:  # type: ignore[arg-type]  # a str
        live.send(picture())
        assert json.loads(live.recv(20))["names"]


@dataclass
class Load:
    """A client that sends image after image, and what went wrong."""

    proxy: Proxy
    image: bytes
    sent: int = 0
    failures: list[str] = field(default_factory=list)

    def run(self, stopped: threading.Event) -> None:
        with self.proxy.client() as client:
            while not stopped.wait(PACE_SECONDS):
                self.sent += 1
                try:
                    answer = client.post("/detect", content=self.image, headers={"Content-Type": "image/png"})
                    if answer.status_code != 200:
                        self.failures.append(f"{answer.status_code} {answer.text}")
                except httpx.TransportError as error:
                    self.failures.append(repr(error))


def large_picture() -> bytes:
    """A picture of 48 KB: more than HAProxy keeps to send it again."""
    pixels = np.random.default_rng(1).integers(0, 256, (128, 128, 3), np.uint8)
    pillow.fromarray(pixels).save(file := io.BytesIO(), "PNG")
    return file.getvalue()


def test_a_rolling_restart_loses_no_request(
    fleet: Fleet, proxies: dict[str, Proxy], record_property: Callable[[str, object], None]
) -> None:
    if not proxies:
        pytest.skip(f"needs one of the programs {', '.join(PROGRAMS.values())}")
    stopped = threading.Event()
    loads = {name: [Load(proxy, large_picture()) for _ in range(2)] for name, proxy in proxies.items()}
    threads = [threading.Thread(target=load.run, args=(stopped,)) for two in loads.values() for load in two]
    for thread in threads:
        thread.start()
    try:
        for index in range(len(fleet.ports)):
            fleet.restart(index)
    finally:
        stopped.set()
        for thread in threads:
            thread.join(60)
    for name, two in loads.items():
        record_property(name, sum(load.sent for load in two))
        assert [failure for load in two for failure in load.failures] == [], name
        assert all(load.sent > 10 for load in two), name


def test_the_configuration_of_traefik_has_its_shape() -> None:
    """It is in no Debian package, so it was not started: these are the fields of its documentation."""
    [found] = yaml.safe_load(recipe("Traefik"))["http"]["services"].values()
    assert set(found["loadBalancer"]) <= {"servers", "healthCheck", "strategy"}
    assert [set(server) for server in found["loadBalancer"]["servers"]] == [{"url"}] * 2
    assert set(found["loadBalancer"]["healthCheck"]) == {"path", "interval", "timeout"}
