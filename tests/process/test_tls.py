"""RCNN_TLS_CERT and RCNN_TLS_KEY: every kind of request over TLS, and the bounds of connections."""

import asyncio
import json
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect

from app.http_server import tls
from app.http_server.http_protocol import KEPT_BYTES
from app.settings.certificate import Certificate
from rcnn_client import Client, Unreachable
from tests.deploy.test_deploy import health_command
from tests.process.test_connections import DETECT, HANDSHAKE, LIVE, NOWHERE, status
from tests.support.data.moving import animation
from tests.support.fakes import picture
from tests.support.process import Program
from tests.support.rcnn import rcnn
from tests.support.served import eventually
from tests.support.servers.bounded_server import http_server
from tests.support.servers.certificates import Pair, make_pair, needs_openssl, openssl

pytestmark = needs_openssl


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_pair(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def secured(pair: Pair) -> Iterator[Program]:
    """A program that speaks TLS; it is ready, and ends without an error."""
    program = Program(**pair.settings)
    program.logged("ready")
    yield program
    program.terminate()
    assert program.ended() == 0
    assert "Traceback" not in program.log
    program.close()


def test_requests_streams_and_upgrades(secured: Program) -> None:
    assert secured.url.startswith("https://127.0.0.1:")
    for path in ("/", "/docs", "/openapi.json", "/health/ready"):
        assert secured.client.get(path).status_code == 200, path
    for headers in ({}, {"Connection": "Upgrade", "Upgrade": "h2c"}):
        answer = secured.client.post(
            "/detect", content=picture(), headers={"Content-Type": "image/png"} | headers
        )
        assert answer.json()["names"], headers
    lines = secured.client.post("/detect/stream", content=animation()).text.splitlines()
    assert json.loads(lines[-1])["end"] == "complete"


def test_a_web_socket_of_a_page_of_this_server(secured: Program, pair: Pair) -> None:
    address = secured.url.replace("https://", "wss://") + "/detect/live"
    with connect(address, ssl=pair.trusting, origin=secured.url) as live:  # type: ignore[arg-type]  # a str
        live.send(picture())
        assert json.loads(live.recv(20))["names"]


def test_clients_that_trust_the_certificate(
    secured: Program, pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(pair.cert))
    with Client(secured.url) as client:
        assert client.detect(picture()).names == ("Square", "disc")
    (tmp_path / "image.png").write_bytes(picture())
    ran = rcnn("detect", tmp_path / "image.png", "--json", "--url", secured.url)
    assert (ran.code, ran.json["names"]) == (0, ["Square", "disc"])


def test_clients_that_do_not_say_what_to_do_at_once(secured: Program, program: Program) -> None:
    for url, advice in (
        (secured.url, "set SSL_CERT_FILE"),
        (program.url.replace("http", "https"), "use http://"),
    ):
        with Client(url, retries=100, deadline=1000) as client, pytest.raises(Unreachable, match=advice):
            client.detect(picture())
    refused = httpx.get(secured.url.replace("https", "http"))
    assert (refused.status_code, "this port speaks HTTPS" in refused.text) == (400, True)


def test_the_image_is_healthy_with_tls(secured: Program, pair: Pair) -> None:
    environment = {"RCNN_PORT": str(secured.port), "RCNN_TLS_CERT": str(pair.cert)}
    done = subprocess.run(health_command(), env=environment, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr


# bounds


@pytest.mark.parametrize(
    ("sent", "state", "seconds"),
    [
        (b"", "head", 30),
        (LIVE, "idle", 75),
        (NOWHERE + b"Content-Length: %d\r\n\r\n1" % (KEPT_BYTES + 1), "discard", 5),
        (b"nonsense", "discard", 5),
        (HANDSHAKE + b"Content-Length: 3\r\n\r\n", "discard", 5),
    ],
)
async def test_a_connection_without_a_request_in_work_is_closed(
    pair: Pair, sent: bytes, state: str, seconds: int
) -> None:
    async with http_server(certificate=Certificate(pair.cert, pair.key)) as server:
        client = await server.connect(sent, pair.trusting)
        await server.reaches(state)
        server.pass_time(seconds - 1)
        assert server.count(state) == 1
        server.pass_time(seconds + 1)
        received = await client.rest()
        assert (received == b"") == (sent == b"")


async def test_unfinished_handshakes_are_bounded_in_time_and_number(pair: Pair) -> None:
    hello = b"\x16\x03\x01\x02\x00\x01"  # the beginning of one
    async with http_server(limit=20, certificate=Certificate(pair.cert, pair.key)) as server:
        slow = [await server.connect(hello) for _ in range(40)]
        assert server.count("head") <= 20
        client = await server.connect(LIVE, pair.trusting)
        assert status(await client.response()) == 200
        await slow[0].rest()
        assert len(server.connections.tracked) <= 20
        server.pass_time(31)
        for one in slow:
            await one.rest()
        assert await server.served.metric("rcnn_connections_closed_total", reason="head") >= 1


@pytest.mark.parametrize(
    ("sent", "state"),
    [(LIVE, "discard"), (b"\x16\x03\x01\x00\x05hello", None), (b"\x16\x03", "head"), (b"", "head")],
)
async def test_what_is_no_handshake_leaves_nothing_behind(pair: Pair, sent: bytes, state: str | None) -> None:
    async with http_server(certificate=Certificate(pair.cert, pair.key)) as server:
        client = await server.connect(sent)
        if state is None:
            await client.rest()
        else:
            await server.reaches(state)
        client.writer.close()
        await eventually(lambda: not server.connections.tracked, "nothing counts it")


def client_hello() -> bytes:
    """The first bytes of a client that speaks TLS."""
    outgoing = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


async def test_a_handshake_after_plain_http_is_thrown_away(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    async with http_server(certificate=Certificate(pair.cert, pair.key)) as server:
        client = await server.connect(LIVE)
        assert status(await client.response()) == 400
        client.send(client_hello())
        client.writer.close()
        await eventually(lambda: not server.connections.tracked, "it is gone")
    assert [record for record in caplog.records if record.exc_info] == []


async def test_the_end_of_the_server_does_not_wait_for_idle_clients(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "CLOSING_SECONDS", 1000)
    async with http_server(certificate=Certificate(pair.cert, pair.key)) as server:
        client = await server.connect(LIVE, pair.trusting)
        await client.response()
        client.writer.transport.pause_reading()  # it does not see the goodbye
        [connection] = server.connections.tracked
        connection.shutdown()  # type: ignore[attr-defined]  # as uvicorn calls it
        await eventually(lambda: not server.connections.tracked, "it is gone")
        client.writer.transport.abort()


async def test_a_body_may_be_larger_than_all_buffers(pair: Pair) -> None:
    async with http_server(certificate=Certificate(pair.cert, pair.key)) as server:
        client = await server.connect(DETECT + b"Content-Length: 3000000\r\n\r\n", pair.trusting)
        client.send(picture() + bytes(3_000_000 - len(picture())))
        assert status(await client.response()) == 200


# certificates


async def peer(server_address: tuple[str, int]) -> bytes:
    """The certificate that a server shows."""
    blind = ssl.create_default_context()
    blind.check_hostname, blind.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection(*server_address, ssl=blind)
    shown: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return shown


async def test_a_renewed_certificate_is_used_once_both_files_fit(tmp_path: Path) -> None:
    pair, renewed = make_pair(tmp_path), make_pair(tmp_path, "renewed")
    certificate = Certificate(pair.cert, pair.key)
    async with http_server(certificate=certificate) as server:
        before = await peer(server.address)
        assert not certificate.refresh()
        renewed.cert.replace(pair.cert)
        assert not certificate.refresh()
        assert await peer(server.address) == before
        renewed.key.replace(pair.key)
        in_use = certificate.context
        assert certificate.refresh()
        assert certificate.context is not in_use  # files that change while they are read cannot spoil it
        after = await peer(server.address)
    assert after == ssl.PEM_cert_to_DER_cert(pair.cert.read_text()) != before


def missing(pair: Pair) -> None:
    pair.key.unlink()


def swapped(pair: Pair) -> None:
    cert = pair.cert.read_bytes()
    pair.cert.write_bytes(pair.key.read_bytes())
    pair.key.write_bytes(cert)


def of_another(pair: Pair) -> None:
    make_pair(pair.key.parent, "other").key.replace(pair.key)


def encrypted(pair: Pair) -> None:
    plain = pair.key.rename(pair.key.with_suffix(".plain"))
    openssl("pkey", "-in", str(plain), "-out", str(pair.key), "-aes256", "-passout", "pass:secret")


def damaged(pair: Pair) -> None:
    pair.cert.write_text(pair.cert.read_text().replace("MII", "MIJ", 1))


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (missing, "RCNN_TLS_KEY: .*No such file"),
        (swapped, "RCNN_TLS_CERT: .* has no certificate in PEM"),
        (of_another, "RCNN_TLS_KEY: .* is not the key of the certificate"),
        (encrypted, "RCNN_TLS_KEY: .* has a passphrase; .*openssl pkey"),
        (damaged, "RCNN_TLS_CERT, RCNN_TLS_KEY: .* cannot be used"),
    ],
)
def test_files_that_do_not_fit_are_named(tmp_path: Path, harm: Callable[[Pair], None], said: str) -> None:
    pair = make_pair(tmp_path)
    harm(pair)
    with pytest.raises(OSError, match=said):
        Certificate(pair.cert, pair.key)


def test_a_wrong_certificate_ends_the_program_before_it_loads(tmp_path: Path) -> None:
    (tmp_path / "tls.key").touch()
    program = Program("--loading", tls_cert=str(tmp_path / "tls.pem"), tls_key=str(tmp_path / "tls.key"))
    try:
        assert program.ended() == 1
        assert "RCNN_TLS_CERT" in program.log
        assert "listening" not in program.log
        assert "Traceback" not in program.log
    finally:
        program.close()
