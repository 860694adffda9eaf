"""Decodes reserve memory; those that find none wait for another; want of memory is the server's state."""

import asyncio
import subprocess
import sys

import pytest

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
    memory, admission = DecodeMemory(), Admission(8, LARGE)
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
    assert admission.bytes == 0


async def test_a_decode_that_no_other_could_make_way_for_is_let_through() -> None:
    memory, admission = DecodeMemory(), Admission(8, LARGE)
    admission.admit(LARGE - 1, LATE)  # waits for the device
    decode = reservation(memory, admission)
    await asyncio.to_thread(decode.reserve, 3 * LARGE)
    assert admission.bytes == LARGE - 1


async def test_a_waiting_decode_whose_request_is_over_ends() -> None:
    memory, admission = DecodeMemory(), Admission(8, LARGE)
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
import asyncio, io, resource
from PIL import Image
from tests.support.fakes import picture
from tests.support.served import serve_app

BYTES = {"Content-Type": "application/octet-stream"}

def encoded(format, side=4500, **options):
    file = io.BytesIO()
    Image.new("RGB", (side, side), (9, 99, 199)).save(file, format, **options)
    return file.getvalue()

async def main():
    small, damaged = picture(64, 48), encoded("WEBP", 64)[:-20]
    files = [
        encoded("WEBP", lossless=True, method=0, quality=0),
        encoded("AVIF", speed=10),
        encoded("PNG", 7000, compress_level=1),
        encoded("TIFF", 7000, compression="tiff_adobe_deflate"),
        small,
        damaged,
    ]
    async with serve_app() as served:
        assert (await served.client.post("/detect", content=small, headers=BYTES)).status_code == 200
        used = int(next(line for line in open("/proc/self/status") if line.startswith("VmSize")).split()[1])
        resource.setrlimit(resource.RLIMIT_AS, (used * 1024 + 60 * 2**20,) * 2)
        for data in files:
            answer = await served.client.post("/detect", content=data, headers=BYTES)
            print(answer.status_code, answer.json().get("code"), answer.headers.get("retry-after"))
        print(await served.metric("rcnn_memory_errors_total"))

asyncio.run(main())
"""


@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux bounds a process' address space")
def test_want_of_memory_is_the_servers_state() -> None:
    command = [sys.executable, "-c", SHORT_OF_MEMORY]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    *answers, errors = result.stdout.splitlines()
    assert answers == ["429 overloaded 2"] * 4 + ["200 None None", "400 invalid_image None"]
    assert float(errors) == 4
    assert result.stderr.count("too little memory to prepare an image") == 4
