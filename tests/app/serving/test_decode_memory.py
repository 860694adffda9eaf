"""Decodes reserve memory; those that find none wait for another; want of memory is the server's state."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image as pillow

from app.serving.admission import Admission
from app.serving.decode_memory import SMALL_BYTES, DecodeMemory, Reservation
from models.images.control import DecodeStopped
from tests.support.fakes import picture
from tests.support.served import ROOT, Serve, eventually

LARGE = 2 * SMALL_BYTES
LATE = 1e9
BYTES = {"Content-Type": "application/octet-stream"}


def reservation(memory: DecodeMemory, admission: Admission) -> Reservation:
    return Reservation(memory, admission.admit(0, LATE).grow, 60)


async def test_memory_is_reserved_while_an_image_is_decoded(serve: Serve) -> None:
    data = picture(640, 480)
    async with serve() as served:
        served.detector.decode.clear()
        request = asyncio.create_task(served.client.post("/detect", content=data, headers=BYTES))
        await eventually(lambda: len(served.detector.prepared) == 1, "the pixels are decoded")
        assert await served.metric("rcnn_queue_bytes") == len(data) + 7 * 640 * 480
        served.detector.let_go()
        assert (await request).status_code == 200
        assert await served.metric("rcnn_queue_bytes") == 0


async def test_a_large_decode_waits_for_another_one() -> None:
    memory, admission = DecodeMemory(LARGE), Admission(8, 2 * LARGE)
    first, second, small = (reservation(memory, admission) for _ in range(3))
    await asyncio.to_thread(first.reserve, LARGE)
    assert admission.bytes == LARGE
    waiting = asyncio.create_task(asyncio.to_thread(second.reserve, LARGE))
    await eventually(lambda: memory.waiting == 1, "the second waits")
    await asyncio.to_thread(small.reserve, SMALL_BYTES)  # is not held up
    first.stop()
    await waiting
    assert admission.bytes == LARGE
    second.stop()
    small.stop()
    assert admission.bytes == 0


@pytest.mark.parametrize("queued", [0, 2 * LARGE - 1])
async def test_a_decode_that_no_other_could_make_way_for_is_let_through(queued: int) -> None:
    """It leaves half of the bytes to other requests, and rejects none of them."""
    memory, admission = DecodeMemory(LARGE), Admission(8, 2 * LARGE)
    admission.admit(queued, LATE)  # waits for the device
    decode = reservation(memory, admission)
    await asyncio.to_thread(decode.reserve, 9 * LARGE)
    assert admission.bytes == (queued or LARGE)
    admission.check_capacity()
    decode.stop()
    assert admission.bytes == queued


async def test_a_waiting_decode_whose_request_is_over_ends() -> None:
    memory, admission = DecodeMemory(LARGE), Admission(8, 2 * LARGE)
    first, second = (reservation(memory, admission) for _ in range(2))
    await asyncio.to_thread(first.reserve, LARGE)
    waiting = asyncio.create_task(asyncio.to_thread(second.reserve, LARGE))
    await eventually(lambda: memory.waiting == 1, "the second waits")
    second.stop()
    with pytest.raises(DecodeStopped):
        await waiting
    with pytest.raises(DecodeStopped):
        second.check()
    first.stop()
    assert admission.bytes == memory.waiting == 0


SHORT_OF_MEMORY = """
import asyncio, resource, sys
from pathlib import Path
from tests.support.fakes import picture
from tests.support.served import serve_app

async def main():
    async with serve_app() as served:
        async def post(data):
            kind = {"Content-Type": "application/octet-stream"}
            return await served.client.post("/detect", content=data, headers=kind)

        assert (await post(picture())).status_code == 200
        used = int(next(line for line in open("/proc/self/status") if line.startswith("VmSize")).split()[1])
        resource.setrlimit(resource.RLIMIT_AS, (used * 1024 + 60 * 2**20,) * 2)
        for file in sorted(Path(sys.argv[1]).iterdir()):
            answer = await post(file.read_bytes())
            print(file.name, answer.status_code, answer.json().get("code"), answer.headers.get("retry-after"))
        print(await served.metric("rcnn_memory_errors_total"))

asyncio.run(main())
"""
FILES: dict[str, tuple[int, dict[str, object]]] = {
    "avif": (6000, {"speed": 10}),
    "png": (6000, {"compress_level": 1}),
    "tiff": (6000, {"compression": "tiff_adobe_deflate"}),
    "webp": (6000, {"lossless": True, "method": 0, "quality": 0}),
}


@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux bounds a process' address space")
def test_want_of_memory_is_the_servers_state(tmp_path: Path) -> None:
    """Four images that need 200 MB and more, a small one, and one that is really damaged; 60 MB are free."""
    for name, (side, options) in FILES.items():
        pillow.new("RGB", (side, side), (9, 99, 199)).save(tmp_path / f"1.{name}", **options)
    (tmp_path / "2.small").write_bytes(picture())
    (tmp_path / "3.damaged").write_bytes(picture(format="WEBP")[:-20])
    command = [sys.executable, "-c", SHORT_OF_MEMORY, tmp_path]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines() == [
        *(f"1.{name} 429 overloaded 2" for name in FILES),
        "2.small 200 None None",
        "3.damaged 400 invalid_image None",
        "4.0",
    ]
    assert result.stderr.count("too little memory to prepare an image") == 4
