"""What reads or writes many bytes runs on a thread, so that the event loop serves the others meanwhile."""

import threading
from typing import Any, cast

import numpy as np

from app.schemas.limits import MAX_LOOP_BYTES
from app.serving.request import Outcome
from app.transport.responses import OBJECT_BYTES, write_sized
from app.transport.threads import run_sized
from models.detections import Detections


def outcome(count: int) -> Outcome:
    detections = Detections(
        np.zeros((count, 4), np.float32), np.ones(count, np.int64), np.ones(count, np.float32)
    )
    return Outcome(cast(Any, None), (1, 1), detections, cast(Any, None))


async def test_large_bodies_and_answers_are_worked_on_beside_the_event_loop() -> None:
    here = threading.get_ident()
    most = MAX_LOOP_BYTES // OBJECT_BYTES
    assert await run_sized(MAX_LOOP_BYTES, threading.get_ident) == here
    assert await run_sized(MAX_LOOP_BYTES + 1, threading.get_ident) != here
    assert await write_sized([outcome(most)], lambda: str(threading.get_ident()).encode()) == b"%d" % here
    assert await write_sized([outcome(most), outcome(1)], lambda: str(threading.get_ident()).encode()) != (
        b"%d" % here
    )
