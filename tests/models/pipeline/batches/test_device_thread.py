"""The thread of a GPU's detector: one for warm-up and batches, and it ends with its detector."""

import gc
import threading
import weakref

import pytest
from torch import Tensor

from models.detector import Job
from models.engines.protocol import DenseOutput, Engine
from models.pipeline.batches.device_thread import DeviceThread
from tests.models.pipeline.batches.test_recorded_runs import picture
from tests.support.cuda import gpu_detector, gpu_engine
from tests.support.data.networks import USUAL, random_card, random_network


class Witness:
    """An engine that notes the threads that run its dense part."""

    recording = None

    def __init__(self, engine: Engine) -> None:
        self._engine, self.threads = engine, set[int]()
        self.name, self.device, self.precision = engine.name, engine.device, engine.precision
        self.suppress, self.head = engine.suppress, engine.head

    def dense(self, pixels: Tensor) -> DenseOutput:
        self.threads.add(threading.get_ident())
        return self._engine.dense(pixels)


@pytest.mark.network
def test_warm_up_and_batches_of_any_caller_run_on_one_thread() -> None:
    network = random_network()
    witness = Witness(gpu_engine(network, "fp32"))
    detector = gpu_detector(network, random_card(), witness)
    detector.warm_up(1)
    job = Job(detector.prepare(picture(0)), USUAL)
    callers = [threading.Thread(target=detector.detect, args=([job],)) for _ in range(2)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    assert len(witness.threads) == 1
    assert threading.get_ident() not in witness.threads


def test_it_returns_raises_and_may_call_itself() -> None:
    call = DeviceThread()
    assert call(lambda: call(threading.get_ident)) == call(threading.get_ident) != threading.get_ident()
    with pytest.raises(KeyError, match="none"):
        call(lambda: {}["none"])


def test_it_ends_with_its_owner_and_keeps_nothing() -> None:
    class Tensorlike:
        pass

    call = DeviceThread()
    held = Tensorlike()
    alive, thread = weakref.ref(held), call._thread
    call(lambda held=held: None)
    del held
    call(lambda: None)
    assert alive() is None
    del call
    gc.collect()
    thread.join(10)
    assert not thread.is_alive()
