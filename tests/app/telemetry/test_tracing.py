"""Traces: what a request's spans say, how batches are linked to requests; nothing where they are off."""

import asyncio
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.trace import SpanKind, StatusCode, format_span_id, format_trace_id

from app.main import create_app
from app.protocols.openinference.grpc.proto.grpc_service_pb2 import ServerLiveRequest
from app.settings.settings import Settings
from app.telemetry import tracing
from app.telemetry.logs import JsonLines, RequestIds
from app.telemetry.metrics import STAGES
from tests.app.protocols.openinference.test_grpc import calls
from tests.app.protocols.openinference.test_grpc import request as call_request
from tests.conftest import ROOT, AsgiRequest, Program, Serve, Served, eventually
from tests.support.fakes import FakeDetector, picture
from tests.support.networks import random_detector
from tests.support.protocols import PNG

CALL = "inference.GRPCInferenceService/ModelInfer"
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SENT = f"00-{TRACE}-{PARENT}-01"
UNSAMPLED = f"00-{TRACE}-{PARENT}-00"
HEADERS = {"Content-Type": "image/png"}
SPANS = ("decode", "queue", "batch", "dense", "postprocess")  # inside a request's, with a FakeDetector


class Collected:
    """The spans that a provider has sent to memory."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.spans if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        (span,) = self.named(name)
        return span


@pytest.fixture
def collected(monkeypatch: pytest.MonkeyPatch) -> Collected:
    """OpenTelemetry is set up in this process, as a user's own program may do; spans stay in memory."""
    collected = Collected()
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", collected.provider)
    return collected


def ids(span: ReadableSpan) -> tuple[int, int]:
    assert span.context is not None
    return span.context.trace_id, span.context.span_id


def parent(span: ReadableSpan) -> int | None:
    return span.parent.span_id if span.parent else None


def links(span: ReadableSpan) -> list[tuple[int, int]]:
    return [(link.context.trace_id, link.context.span_id) for link in span.links]


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


# --- one trace


async def test_a_trace_shows_where_a_requests_time_went(collected: Collected) -> None:
    app = create_app(Settings(decode_threads=1), random_detector())
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, timeout=60) as client:
        await eventually(lambda: app.state.service.state == "ok", "the service is ready")
        sent = {**HEADERS, "traceparent": SENT, "X-Request-ID": "mine"}
        response = await client.post("http://test/detect", content=picture(), headers=sent)
        assert response.status_code == 200

    request, batch = collected.one("POST /detect"), collected.one("batch")
    assert {span.name for span in collected.spans} == {"POST /detect", "batch", *STAGES}
    assert {format_trace_id(ids(span)[0]) for span in collected.spans} == {TRACE}
    assert request.parent is not None
    assert (format_span_id(request.parent.span_id), request.kind) == (PARENT, SpanKind.SERVER)
    assert response.headers["traceresponse"] == f"00-{TRACE}-{format_span_id(ids(request)[1])}-01"
    assert attributes(request) == {
        "http.request.method": "POST",
        "http.route": "/detect",
        "http.response.status_code": 200,
        "rcnn.request_id": "mine",
    }
    for name in ("decode", "queue", "batch"):
        assert parent(collected.one(name)) == ids(request)[1]
    for name in ("dense", "proposals", "roi_align", "head", "postprocess"):
        assert parent(collected.one(name)) == ids(batch)[1]
    assert all(span.status.status_code is StatusCode.UNSET for span in collected.spans)


async def test_spans_lie_in_their_order_and_inside_one_another(serve: Serve, collected: Collected) -> None:
    async with serve(FakeDetector(seconds=0.02)) as served:
        await served.client.post("/detect", content=PNG, headers=HEADERS)
    named = {span.name: (span.start_time or 0, span.end_time or 0) for span in collected.spans}
    request, decode, queue, dense = (named[name] for name in ("POST /detect", "decode", "queue", "dense"))
    assert request[0] <= decode[0] <= decode[1] <= queue[0] <= queue[1] <= request[1]
    assert queue[1] <= named["batch"][1] <= request[1]
    assert dense[1] - dense[0] == 20_000_000  # ns: as the stage's metric has it
    assert queue[1] < dense[1]  # the wait ends where the batch begins, not with the answer


async def test_a_batch_is_linked_to_every_request_in_it(serve: Serve, collected: Collected) -> None:
    detector = FakeDetector()
    async with serve(detector) as served:
        detector.free.clear()
        work = [asyncio.create_task(served.client.post("/detect", content=PNG, headers=HEADERS))]
        await eventually(lambda: len(detector.batches) == 1, "the first is on the device")
        for waiting in (1, 2):
            work.append(asyncio.create_task(served.client.post("/detect", content=PNG, headers=HEADERS)))
            await eventually(lambda n=waiting: served.app.state.service.queue_depth == n, "it waits")  # type: ignore[misc]  # a default of a lambda
        detector.let_go()
        answers = [await one for one in work]

    alone, together = sorted(collected.named("batch"), key=lambda span: len(span.links))
    assert [attributes(batch)["rcnn.batch.size"] for batch in (alone, together)] == [1, 2]
    expected = [tuple(answer.headers["traceresponse"].split("-")[1:3]) for answer in answers]
    assert len({trace for trace, _ in expected}) == 3, "each has a trace of its own"
    found = [(format_trace_id(trace), format_span_id(span)) for trace, span in links(alone) + links(together)]
    assert found == expected
    assert parent(together) == links(together)[0][1], "the first one's trace is whole"
    waited = [links(span) for span in collected.named("queue")]
    assert sorted(waited) == sorted([[ids(alone)], [ids(together)], [ids(together)]])


async def test_an_image_in_tiles_is_linked_once_a_batch(serve: Serve, collected: Collected) -> None:
    async with serve() as served:
        response = await served.client.post("/detect?tile=128", content=picture(512, 384), headers=HEADERS)
        assert response.status_code == 200
    request = collected.one("POST /detect")
    assert len(collected.named("queue")) > 4
    assert {tuple(links(batch)) for batch in collected.named("batch")} == {(ids(request),)}


async def test_each_image_of_a_request_has_its_spans(serve: Serve, collected: Collected) -> None:
    async with serve() as served:
        files = [("image", ("a.png", PNG)), ("image", ("b.png", PNG))]
        await served.client.post("/detect/batch", files=files)
    request = collected.one("POST /detect/batch")
    for name in ("decode", "queue"):
        assert [parent(span) for span in collected.named(name)] == [ids(request)[1]] * 2


# --- what goes wrong


def failure(span: ReadableSpan) -> tuple[StatusCode, Any]:
    return span.status.status_code, attributes(span).get("error.type")


async def test_a_clients_fault_is_no_error_of_the_request(serve: Serve, collected: Collected) -> None:
    async with serve() as served:
        await served.client.post("/detect", content=b"no image", headers=HEADERS)
    assert failure(collected.one("POST /detect")) == (StatusCode.UNSET, None)
    assert failure(collected.one("decode")) == (StatusCode.ERROR, "InvalidImage")


async def test_a_batch_that_fails_says_so(serve: Serve, collected: Collected) -> None:
    detector = FakeDetector(poison=lambda _: OSError("the device is gone"))
    async with serve(detector) as served:
        answer = await served.client.post("/detect", content=PNG, headers=HEADERS)
        assert answer.status_code == 500
    assert failure(collected.one("batch")) == failure(collected.one("queue")) == (StatusCode.ERROR, "OSError")
    request = collected.one("POST /detect")
    assert (failure(request)[0], request.status.description) == (StatusCode.ERROR, "answered with 500")


async def test_a_deadline_that_passes_is_an_error(serve: Serve, collected: Collected) -> None:
    detector = FakeDetector()
    async with serve(detector) as served:
        detector.free.clear()
        answer = await served.client.post("/detect?timeout_ms=1000", content=PNG, headers=HEADERS)
        assert answer.status_code == 504
    assert failure(collected.one("queue")) == (StatusCode.ERROR, "Expired")
    assert collected.one("POST /detect").status.description == "answered with 504"


async def test_who_leaves_is_an_error(serve: Serve, collected: Collected) -> None:
    detector = FakeDetector()
    async with serve(detector) as served:
        detector.free.clear()
        caller = AsgiRequest(served.app, "/detect", HEADERS)
        caller.send(PNG)
        await eventually(lambda: len(detector.batches) == 1, "it is on the device")
        caller.leave()
        await caller.ended()
        request = collected.one("POST /detect")
        assert attributes(request)["http.response.status_code"] == 499
        assert request.status.description == "the client left before its answer"
        assert failure(collected.one("queue")) == (StatusCode.ERROR, "CancelledError")


# --- context in and out


@pytest.mark.parametrize("sent", [None, "nonsense", f"00-{'0' * 32}-{PARENT}-01", f"ff-{TRACE}-{PARENT}-01"])
async def test_without_a_valid_parent_a_trace_begins(
    serve: Serve, collected: Collected, sent: str | None
) -> None:
    headers = HEADERS | ({"traceparent": sent} if sent else {})
    async with serve() as served:
        answer = await served.client.post("/detect", content=PNG, headers=headers)
    request = collected.one("POST /detect")
    assert request.parent is None
    assert answer.headers["traceresponse"].split("-")[1] == format_trace_id(ids(request)[0]) != TRACE


async def test_a_caller_that_does_not_sample_is_not_sampled(serve: Serve, collected: Collected) -> None:
    async with serve() as served:
        answer = await served.client.post(
            "/detect", content=PNG, headers={**HEADERS, "traceparent": UNSAMPLED}
        )
        assert answer.status_code == 200
    assert collected.spans == []
    assert answer.headers["traceresponse"].startswith(f"00-{TRACE}-")
    assert answer.headers["traceresponse"].endswith("-00")


async def test_probes_are_not_traced(serve: Serve, collected: Collected) -> None:
    async with serve() as served:
        for path in ("/health", "/health/ready", "/metrics"):
            assert "traceresponse" not in (await served.client.get(path)).headers
    assert collected.spans == []


async def test_refusals_carry_their_trace_too(serve: Serve, collected: Collected) -> None:
    async with serve() as served:
        answer = await served.client.get("/nowhere", headers={"traceparent": SENT})
    assert answer.headers["traceresponse"].split("-")[1] == TRACE
    assert collected.one("GET unmatched").attributes


async def test_lines_of_the_log_carry_the_trace(
    serve: Serve, collected: Collected, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.handler.addFilter(RequestIds())
    caplog.handler.setFormatter(JsonLines())
    with caplog.at_level(logging.INFO):
        async with serve() as served:
            await served.client.post("/detect", content=PNG, headers={**HEADERS, "traceparent": SENT})
            await served.client.get("/health", headers={"traceparent": SENT})
    lines = [json.loads(line) for line in caplog.text.splitlines()]
    (line,) = [line for line in lines if line.get("route") == "/detect"]
    assert line["trace_id"] == TRACE
    assert attributes(collected.one("POST /detect"))["rcnn.request_id"] == line["request_id"]
    assert [other for other in lines if "trace_id" in other] == [line]


async def test_calls_over_grpc_are_traced(serve: Serve, collected: Collected) -> None:
    async with serve() as served, calls(served) as stub:
        call = stub.ModelInfer(call_request(PNG), metadata=(("traceparent", SENT),))
        await call
        trailing = dict(list(await call.trailing_metadata()))
        await stub.ServerLive(ServerLiveRequest())
        await eventually(lambda: bool(collected.named(CALL)), "the call's span has ended")
    method = collected.one(CALL)
    assert trailing["traceresponse"] == f"00-{TRACE}-{format_span_id(ids(method)[1])}-01"
    assert links(collected.one("batch")) == [ids(method)]
    assert {span.name for span in collected.spans} == {method.name, *SPANS}


# --- on and off


async def test_without_a_collector_nothing_is_traced(served: Served) -> None:
    answer = await served.client.post("/detect", content=PNG, headers={**HEADERS, "traceparent": SENT})
    assert answer.status_code == 200
    assert "traceresponse" not in answer.headers
    assert served.app.state.close_tracing is None


def python(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120
    )


def test_without_a_collector_the_sdk_is_not_imported() -> None:
    """The API may be, by FastAPI: it does nothing."""
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


class Collector(ThreadingHTTPServer):
    """What takes spans over OTLP: those it was sent, by path."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Taking)
        self.taken: list[tuple[str, ExportTraceServiceRequest]] = []


class _Taking(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.taken.append((self.path, ExportTraceServiceRequest.FromString(body)))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("path", ["", "/", "/v1/traces"])
def test_the_program_sends_its_traces_before_it_ends(
    start: Callable[..., Program], collector: Collector, path: str
) -> None:
    program = start(otlp_endpoint=f"http://127.0.0.1:{collector.server_port}{path}")
    program.logged("ready")
    answer = program.client.post("/detect", content=PNG, headers={**HEADERS, "traceparent": SENT})
    assert answer.headers["traceresponse"].split("-")[1] == TRACE
    program.terminate()
    assert program.ended() == 0
    assert {path for path, _ in collector.taken} == {"/v1/traces"}
    sent = [resource for _, request in collector.taken for resource in request.resource_spans]
    names = {span.name for resource in sent for scope in resource.scope_spans for span in scope.spans}
    assert names == {"POST /detect", *SPANS}
    about = {pair.key: pair.value.string_value for resource in sent for pair in resource.resource.attributes}
    assert about["service.name"] == "rcnn-serve"


def test_a_collector_that_is_not_there_holds_nothing_up(start: Callable[..., Program]) -> None:
    program = start(otlp_endpoint="http://127.0.0.1:9")
    program.logged("ready")
    assert program.client.post("/detect", content=PNG, headers=HEADERS).status_code == 200
    program.terminate()
    assert program.ended(15) == 0


@pytest.mark.parametrize("address", ["127.0.0.1:4318", "grpc://collector:4317", "http://", "http:// x"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="otlp_endpoint"):
        Settings(otlp_endpoint=address)


def test_nothing_is_recorded_where_the_sampler_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    provider = TracerProvider(sampler=ParentBased(ALWAYS_OFF), shutdown_on_exit=False)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    with tracing.as_current(tracing.begin("GET", {})) as request, tracing.span("decode") as span:
        assert isinstance(request, trace.Span)
        assert not request.is_recording()
        assert span is None
