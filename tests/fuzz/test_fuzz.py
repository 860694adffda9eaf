"""The fuzzer itself: it finds planted faults, keeps their shortest input, and reaches results and errors."""

import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fuzz.run import Fuzzer
from tests.fuzz.server import FuzzedServer
from tests.fuzz.targets import Target, targets
from tests.fuzz.units import join, split
from tests.support.data.image_files import samples
from tests.support.protocols import as_json


def fails_on_bytes(data: bytes) -> None:
    if b"\xff\xff" in data[4:]:
        raise KeyError("planted")


def fails_on_a_value(data: bytes) -> None:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return
    if isinstance(document, dict) and isinstance(document.get("a"), list):
        raise TypeError("planted")


PLANTED: list[tuple[list[bytes], Callable[[bytes], None], type[Exception]]] = [
    ([b"abcdefgh" * 9], fails_on_bytes, KeyError),
    ([b'{"a": 1, "b": [2]}'], fails_on_a_value, TypeError),
]


@pytest.mark.parametrize(("corpus", "run", "kind"), PLANTED)
def test_a_planted_fault_is_found_and_kept(
    tmp_path: Path, corpus: list[bytes], run: Callable[[bytes], None], kind: type[Exception]
) -> None:
    fuzzer = Fuzzer(60, first_seed=1, folder=tmp_path)
    fuzzer.run([Target("planted", corpus, run)])
    data, error = fuzzer.faults["planted"]
    assert isinstance(error, kind)
    [kept] = tmp_path.glob("planted-*.bin")
    assert kept.read_bytes() == data
    assert not (tmp_path / "current").exists()


def test_work_that_does_not_end_in_time_is_a_fault(tmp_path: Path) -> None:
    def spin(data: bytes) -> None:
        ends = time.process_time() + 0.1
        while time.process_time() < ends:
            pass

    fuzzer = Fuzzer(60, first_seed=1, folder=tmp_path, cpu_seconds=0.05)
    fuzzer.run([Target("slow", [b"x"], spin)])
    assert "s of CPU time for 1 bytes" in str(fuzzer.faults["slow"][1])


def test_units_of_every_format_join_to_the_same_file() -> None:
    files = [data for _, data in samples()] + [as_json({"a": [1, "b"]})[0]]
    assert all(join(split(data)) == data for data in files)
    assert min(len(split(data)) for data in files) >= 2


def test_an_internal_error_of_the_server_is_a_fault() -> None:
    with FuzzedServer() as server:
        server.detector.poison = lambda job: KeyError("planted")
        with pytest.raises(AssertionError, match="internal"):
            server.post("/detect", samples()[0][1], {"Content-Type": "image/jpeg"})


def test_every_target_accepts_its_corpus() -> None:
    with targets() as every:
        names = Counter(target.name for target in every)
        accepted = [target.name for target in every if {*map(target.run, target.corpus)} & {None, 200, "OK"}]
    assert accepted == list(names)  # each name once
    assert {"image", "header", "frames", "query", "base64", "grpc", "body:multipart", "body:tensors"} <= set(
        names
    )
