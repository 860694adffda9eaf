"""Checks of this machine: Python, torch, the device, the engine and its precision."""

import platform
import sys
from collections.abc import Iterator

from app.commands.doctor.check import Check, failed, ok, warning
from app.commands.doctor.precision import check_precision
from app.settings.settings import Settings

OLDEST = (3, 11)
REINSTALL = "install torch and torchvision again, both from the same index, as docs/install.md shows"


def check_python() -> Check:
    """The interpreter and its machine."""
    text = f"{platform.python_version()} on {platform.system()} {platform.machine()}, {sys.executable}"
    if sys.version_info < OLDEST:
        return failed("Python", text, "rcnn-serve needs Python 3.11 or newer")
    return ok("Python", text)


def check_torch() -> Check:
    """Whether torch and torchvision can be imported, and fit each other."""
    try:
        from models.runtime import import_torchvision, torch_build

        import_torchvision()
    except (ImportError, OSError, RuntimeError) as error:  # of a build for another torch: RuntimeError
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        return failed("torch", f"it cannot be imported: {reason}", REINSTALL)
    return ok("torch", torch_build())


def check_devices(settings: Settings) -> Iterator[Check]:
    """Each device of the settings with its driver and the engine on it; needs torch."""
    from models.engines import EngineUnavailable, check_choice, choose_device
    from models.engines.cuda_device import cpu_reason, describe_gpu

    for name in settings.devices:
        try:
            device = choose_device(name)
        except EngineUnavailable as error:
            yield failed("device", error)
            continue
        reason = cpu_reason() if name == "auto" else None
        if reason is not None:
            yield warning("device", "cpu, although this machine has a GPU or its driver", reason)
        else:
            of_gpu = f": {describe_gpu(device)}" if device.type == "cuda" else ", as there is no GPU"
            yield ok("device", f"{device}{of_gpu if name != 'cpu' else ', as RCNN_DEVICE says'}")
        try:
            engine = check_choice(settings.engine, settings.precision, device)
        except EngineUnavailable as error:
            yield failed("engine", error)
            continue
        yield from _check_engine(engine, device.type, settings)


def _check_engine(engine: str, device: str, settings: Settings) -> Iterator[Check]:
    if engine == "torch" and device == "cpu" and settings.engine == "auto":
        yield warning(
            "engine",
            "torch, as OpenVINO is not installed",
            "pip install 'rcnn-serve[cpu]': OpenVINO is faster on a CPU, and int8 needs it",
        )
    else:
        why = "the fastest that is installed" if settings.engine == "auto" else "as RCNN_ENGINE says"
        yield ok("engine", f"{engine}, {why}")
    yield from check_precision(engine, device, settings)
