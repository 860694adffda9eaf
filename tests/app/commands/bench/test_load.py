"""`rcnn bench load` at a real server: rates, connections, latencies from due times, errors by status."""

from pathlib import Path

import pytest

from app.commands.bench import load
from tests.support.chromium import served
from tests.support.fakes import FakeDetector
from tests.support.process import closed_port
from tests.support.rcnn import rcnn


def test_requests_are_sent_at_their_rate_or_back_to_back(url: str, image: Path) -> None:
    command = ("bench", "load", url, "--image", image)
    ran = rcnn(*command, "--rate", 40, "--seconds", 0.5, "--model", "fake", "--json")
    assert ran.code == 0, ran.err
    assert (ran.json["model"], ran.json["rate"], ran.json["answered"], ran.json["errors"]) == (
        *("fake", 40, 20),
        {},
    )
    assert 0 < ran.json["p50_ms"] <= ran.json["p95_ms"] <= ran.json["p99_ms"] <= ran.json["slowest_ms"]
    ran = rcnn(*command, "--connections", 2, "--seconds", 0.3)
    title, heading, numbers = ran.out.splitlines()
    assert title == "fake, 64x48 px, 2 connections for 0.3 s"
    assert heading.split()[:5] == ["images/s", "p50", "ms", "p95", "ms"]
    *_, answered, errors = numbers.split()
    assert (int(answered) > 0, errors) == (True, "0")


def test_latency_counts_from_the_due_time_and_what_is_overdue_is_not_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ten are due within 0.2 s; the one connection gets an answer in 0.1 s."""
    monkeypatch.setattr(load, "MAX_CONNECTIONS", 1)
    with served(FakeDetector(seconds=0.1)) as url:
        command = ("bench", "load", url, "--rate", 50, "--seconds", 0.2)
        measured = rcnn(*command, "--json").json
        assert measured["answered"] + measured["errors"].get("not sent", 0) == 10
        late = (measured["answered"] - 1) * (0.1 - 1 / 50) + 0.1
        assert measured["slowest_ms"] >= 1000 * late
        monkeypatch.setattr(load, "GRACE", 0.0)
        ran = rcnn(*command)
        assert "not sent: " in ran.out
        assert "all 1 connections waited" in ran.out


def test_errors_are_counted_by_status() -> None:
    with served(FakeDetector(seconds=0.2), max_queue=1) as url:
        measured = rcnn("bench", "load", url, "--rate", 60, "--seconds", 0.5, "--json").json
    assert measured["errors"].keys() == {"429"}
    assert measured["answered"] + measured["errors"]["429"] == 30


def test_a_load_that_cannot_be_measured_says_why(url: str, image: Path) -> None:
    closed = f"http://127.0.0.1:{closed_port()}"
    for arguments, code, text in (
        ((closed,), 1, "is the service running there?"),
        ((url, "--model", "yolo"), 1, "no model 'yolo'"),
        ((url, "--rate", 1, "--connections", 1), 2, "choose one"),
        (("127.0.0.1",), 2, "URL: '127.0.0.1' is no http URL; give one as in http"),
    ):
        ran = rcnn("bench", "load", *arguments, "--image", image, "--seconds", 0.1)
        assert (ran.code, ran.out) == (code, "")
        assert text in ran.err
