"""A download that broke off is continued where it stopped, if it is still the same file."""

from dataclasses import replace
from pathlib import Path

import pytest

from models.zoo.download import Downloads, PublishedFile, WeightsError, fetch
from tests.support.servers.http_server import Answer
from tests.support.servers.weights_server import BODY, NAME, WeightsServer, resumes, sends

HALF = len(BODY) // 2
OTHER = b"others; " * 500_000


def cut(server: WeightsServer, cache: Path, answer: Answer, sha256: str | None = None) -> PublishedFile:
    """A file of which one half is in the cache; the next request gets `answer`."""
    source = server.source("/w", resumes(BODY, stops=(HALF, HALF)))
    source = source if sha256 is None else replace(source, sha256=sha256)
    with pytest.raises(WeightsError, match="peer closed connection"):
        fetch(source, cache)
    assert [path.stat().st_size for path in cache.glob("*.partial")] == [HALF]
    server.requests.clear()
    server.answers["/w"] = answer
    return source


def ranges(server: WeightsServer) -> list[str | None]:
    return [request.get("Range") for request in server.requests]


def test_a_broken_connection_is_continued_at_once(server: WeightsServer, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    downloads = Downloads(observe=lambda *state: seen.append(state))
    source = server.source("/w", resumes(BODY, stops=(HALF, HALF + 1000)))
    assert fetch(source, tmp_path, downloads).read_bytes() == BODY
    assert ranges(server) == [None, f"bytes={HALF}-", f"bytes={HALF + 1000}-"]
    assert seen[-1] == (NAME, len(BODY), len(BODY))
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


@pytest.mark.parametrize("sha256", [None, ""], ids=["known hash", "no hash"])
def test_a_later_start_continues(server: WeightsServer, tmp_path: Path, sha256: str | None) -> None:
    source = cut(server, tmp_path, resumes(BODY), sha256)
    assert fetch(source, tmp_path).read_bytes() == BODY
    assert ranges(server) == [f"bytes={HALF}-"]


@pytest.mark.parametrize(
    ("answer", "sha256", "expected"),
    [
        pytest.param(sends(BODY), None, BODY, id="a server that sends all"),
        pytest.param(resumes(OTHER, version='"2"'), "", OTHER, id="another version"),
        pytest.param(resumes(OTHER[: HALF // 2], version='"2"'), "", OTHER[: HALF // 2], id="a shorter one"),
    ],
)
def test_another_file_starts_anew(
    server: WeightsServer, tmp_path: Path, answer: Answer, sha256: str | None, expected: bytes
) -> None:
    assert fetch(cut(server, tmp_path, answer, sha256), tmp_path).read_bytes() == expected
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_a_damaged_part_is_fetched_again(server: WeightsServer, tmp_path: Path) -> None:
    source = cut(server, tmp_path, resumes(BODY))
    [part] = tmp_path.glob("*.partial")
    part.write_bytes(OTHER[:HALF])
    assert fetch(source, tmp_path).read_bytes() == BODY
    assert ranges(server) == [f"bytes={HALF}-", None]


def test_a_whole_part_needs_no_request(server: WeightsServer, tmp_path: Path) -> None:
    source = cut(server, tmp_path, resumes(BODY))
    [part] = tmp_path.glob("*.partial")
    part.write_bytes(BODY)
    assert fetch(source, tmp_path).read_bytes() == BODY
    assert server.requests == []


def test_nothing_is_continued_that_could_be_another_file(server: WeightsServer, tmp_path: Path) -> None:
    source = server.source("/w", resumes(BODY, version=None, stops=(HALF,)), sha256="")
    with pytest.raises(WeightsError, match="peer closed connection"):
        fetch(source, tmp_path)
    assert fetch(source, tmp_path).read_bytes() == BODY
    assert ranges(server) == [None, None]
