"""The server behind a real nginx: below a path that nginx removes, and below one that it passes on."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from getpass import getuser
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect

from tests.support.data.moving import animation
from tests.support.fakes import picture
from tests.support.process import Program, closed_port

NGINX = shutil.which("nginx") or "/usr/sbin/nginx"
pytestmark = pytest.mark.skipif(not Path(NGINX).exists(), reason="needs nginx")

CONFIGURATION = """
user {user}; daemon off; pid {folder}/pid; error_log {folder}/log; worker_processes 1;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
    uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    proxy_http_version 1.1; proxy_buffering off;
    proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;
    proxy_set_header Host $host; proxy_set_header X-Forwarded-For $remote_addr;
    server {{
        listen 127.0.0.1:{port};
        location /removed/ {{ proxy_pass http://unix:{uds}:/; }}
        location /rcnn {{ proxy_pass http://unix:{uds}; }}
    }}
}}
"""


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of nginx; the server listens on a Unix socket."""
    folder, port = tmp_path_factory.mktemp("nginx"), closed_port()
    program = Program(uds=str(folder / "rcnn.sock"), root_path="/rcnn")
    program.logged("ready")
    (folder / "conf").write_text(
        CONFIGURATION.format(user=getuser(), folder=folder, port=port, uds=folder / "rcnn.sock")
    )
    nginx = subprocess.Popen([NGINX, "-p", str(folder), "-c", str(folder / "conf")])
    try:
        with httpx.Client(transport=httpx.HTTPTransport(retries=10)) as client:
            assert client.get(f"http://127.0.0.1:{port}/rcnn/health").status_code == 200
        yield f"http://127.0.0.1:{port}"
    finally:
        nginx.terminate()
        nginx.wait(20)
        program.close()


@pytest.mark.parametrize("prefix", ["/removed", "/rcnn"])
def test_everything_works_below_a_path(origin: str, prefix: str) -> None:
    with httpx.Client(base_url=origin + prefix, timeout=30) as client:
        for path in ("/", "/web/app.js", "/docs", "/openapi.json", "/health/ready"):
            assert client.get(path).status_code == 200, path
        assert client.post("/detect", files={"image": picture()}).json()["names"]
        lines = client.post("/detect/stream", content=animation()).text.splitlines()
        assert json.loads(lines[-1])["end"] == "complete"
    address = f"{origin}{prefix}/detect/live".replace("http://", "ws://")
    with connect(address, origin=origin) as live:  # type: ignore[arg-type]  # an Origin is a str
        live.send(picture())
        assert json.loads(live.recv())["names"]


def test_the_path_alone_leads_to_the_page(origin: str) -> None:
    response = httpx.get(f"{origin}/rcnn", follow_redirects=True)
    assert (str(response.url), response.status_code) == (f"{origin}/rcnn/", 200)
