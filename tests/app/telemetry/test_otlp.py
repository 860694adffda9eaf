"""Where spans are sent: the collector of the settings, or none; and that neither delays the program."""

from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.process import Program, python
from tests.support.protocols import PNG
from tests.support.servers.http_server import http_server

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
HEADERS = {"Content-Type": "image/png", "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
SPANS = {"POST /detect", "decode", "queue", "batch", "dense", "postprocess"}


def test_without_a_collector_the_sdk_is_not_imported() -> None:
    done = python(
        "import sys\n"
        "from app.main import create_app\n"
        "create_app()\n"
        "unwanted = {'opentelemetry.sdk', 'opentelemetry.exporter', 'app.telemetry.otlp'}\n"
        "assert not unwanted & set(sys.modules)\n"
    )
    assert done.returncode == 0, done.stderr


def test_a_missing_extra_is_named_at_the_start() -> None:
    done = python(
        "import sys\n"
        "sys.modules['opentelemetry.exporter'] = None\n"
        "from app.server import serve\n"
        "from app.settings.settings import Settings\n"
        "sys.exit(serve(Settings(port=0, otlp_endpoint='http://127.0.0.1:1')))\n"
    )
    assert done.returncode == 1
    assert "RCNN_OTLP_ENDPOINT needs OpenTelemetry: pip install 'rcnn-serve[tracing]'" in done.stderr


class Collector:
    """An OTLP collector that keeps what it gets, with its path."""

    def __init__(self) -> None:
        self.port = 0
        self.requests: list[tuple[str, ExportTraceServiceRequest]] = []

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        self.requests.append((handler.path, ExportTraceServiceRequest.FromString(body)))
        handler.send_response(200)
        handler.send_header("Content-Length", "0")
        handler.end_headers()


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    with http_server(collector.answer) as collector.port:
        yield collector


@pytest.mark.parametrize(
    ("variable", "path"),
    [("RCNN_OTLP_ENDPOINT", "/v1/traces/"), ("OTEL_EXPORTER_OTLP_ENDPOINT", "")],
)
def test_the_program_sends_its_traces_before_it_ends(
    start: Callable[..., Program],
    collector: Collector,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    path: str,
) -> None:
    monkeypatch.setenv(variable, f"http://127.0.0.1:{collector.port}{path}")
    program = start()
    program.logged("ready")
    response = program.client.post("/detect", content=PNG, headers=HEADERS)
    assert response.headers["traceresponse"].split("-")[1] == TRACE
    program.terminate()
    assert program.ended() == 0
    assert {path for path, _ in collector.requests} == {"/v1/traces"}
    sent = [resource for _, request in collector.requests for resource in request.resource_spans]
    names = {span.name for resource in sent for scope in resource.scope_spans for span in scope.spans}
    assert names == SPANS
    about = {pair.key: pair.value.string_value for resource in sent for pair in resource.resource.attributes}
    assert about["service.name"] == "rcnn-serve"


def test_a_collector_that_is_not_there_delays_nothing(start: Callable[..., Program]) -> None:
    program = start(otlp_endpoint="http://127.0.0.1:9")
    program.logged("ready")
    assert program.client.post("/detect", content=PNG, headers=HEADERS).status_code == 200
    program.terminate()
    assert program.ended(15) == 0
