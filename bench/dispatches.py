"""Operations and host synchronisations after the dense part on a GPU: `python -m bench.dispatches`.

Counts on meta tensors, so no GPU is needed and nothing is computed: a run that gets to its end has no shape
that depends on a value. Every tensor of the device is a meta tensor and every tensor of the host is not, so a
copy between the two shows. Counted from the dense part's output to the detections, the head included, in a
second run, as the first one fills caches of constants:

- dispatches: aten operations that are not views, each at least one kernel launch on a GPU
- host reads: reads of a device value by the host, operations whose output shape is a device value, and copies
  of host tensors to the device; the copy of the results is one
"""

import argparse
import copy
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torchvision.models.detection import FasterRCNN

from bench.harness.options import Columns, print_table
from models.detector import Detector, Job
from models.engines.parts import DensePart, HeadNHWC
from models.engines.protocol import DenseOutput
from models.networks import build_network
from models.ops.nms import torchvision_nms
from models.options import Options
from models.pipeline.canvas import Canvas
from models.zoo.catalogue import find_card

MODEL = "coco-r50-fpn"
CANVAS, CONTENT, IMAGE = (800, 1088), (800, 1066), (480, 640)  # height, width
BATCHES = (1, 8)
META = torch.device("meta")
READS = (torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape)
NO_KERNEL = ("aten._unsafe_view", "aten.lift_fresh", "aten.detach", "aten.empty")
COLUMNS: Columns = {"images": "{images}", "dispatches": "{dispatches}", "host reads": "{host_reads}"}


class DispatchCounter:
    """Counts while `counting` is set, inside `watch`."""

    def __init__(self) -> None:
        self.counting = False
        self.dispatches: Counter[str] = Counter()
        self.host_reads: Counter[str] = Counter()

    @contextmanager
    def watch(self) -> Iterator[None]:
        """See every operation of the `with` block."""
        with _Functions(self), _Operations(self):
            yield

    def reset(self) -> None:
        """Forget what was counted, and stop counting."""
        self.counting, self.dispatches, self.host_reads = False, Counter(), Counter()

    def count_operation(self, operation: Any, arguments: Any, named: Mapping[str, Any]) -> None:
        """Count an aten operation that has to do with a meta tensor."""
        name = str(operation)
        tensors = [leaf for leaf in tree_leaves((arguments, named)) if isinstance(leaf, Tensor)]
        on_device = any(tensor.device == META for tensor in tensors) or named.get("device") == META
        if not self.counting or not on_device:
            return
        if not operation.is_view and not name.startswith(NO_KERNEL):
            self.dispatches[name] += 1
        if _reads(operation, tensors) or _to_host(arguments, named):
            self.host_reads[name] += 1


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no types for it
    """Counts aten operations; a copy to the host gives zeros, as meta tensors have no values."""

    def __init__(self, counter: DispatchCounter) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch has no types for it
        self._counter = counter

    def __torch_dispatch__(
        self, operation: Any, types: Any, arguments: Any = (), named: Mapping[str, Any] | None = None
    ) -> Any:
        """Run one operation, a composite one as its parts."""
        named = named or {}
        if operation._can_decompose():
            with self:
                output = operation.decompose(*arguments, **named)
            if output is not NotImplemented:
                return output
        self._counter.count_operation(operation, arguments, named)
        return _run(operation, arguments, named)


class _Functions(TorchFunctionMode):
    """Counts constants of the host that become tensors of the device: meta tensors copy no values."""

    def __init__(self, counter: DispatchCounter) -> None:
        super().__init__()
        self._counter = counter

    def __torch_function__(
        self, function: Any, types: Any, arguments: Any = (), named: Mapping[str, Any] | None = None
    ) -> Any:
        """Run one function of torch."""
        named = named or {}
        if self._counter.counting and _sends(function, arguments, named):
            self._counter.host_reads[function.__name__] += 1
        return function(*arguments, **named)


def _sends(function: Any, arguments: Any, named: Mapping[str, Any]) -> bool:
    """Whether it makes a tensor of the device from numbers, a list as an index included."""
    if function in (torch.tensor, torch.as_tensor, torch.asarray):
        return torch.device(named.get("device") or "cpu") == META and not isinstance(arguments[0], Tensor)
    if not arguments or not isinstance(arguments[0], Tensor) or arguments[0].device != META:
        return False
    indexes = function in (Tensor.__getitem__, Tensor.__setitem__)
    index = arguments[1] if indexes and isinstance(arguments[1], tuple) else arguments[1:2]
    return function is Tensor.new_tensor or (indexes and any(isinstance(part, list) for part in index))


def _reads(operation: Any, tensors: Sequence[Tensor]) -> bool:
    """Whether the host needs a meta tensor's value, or a host tensor is copied to the device."""
    name = str(operation)
    if name.startswith("aten.index"):
        values = any(tensor.dtype in (torch.bool, torch.uint8) for tensor in tensors[1:])
    else:
        values = any(tag in operation.tags for tag in READS)
    copies = name.startswith(("aten._to_copy", "aten.copy_"))  # others take a number from the host as it is
    moved = any(tensor.device != META and (copies or tensor.dim() > 0) for tensor in tensors)
    return values or moved or name.startswith("aten.lift_fresh")


def _to_host(arguments: Any, named: Mapping[str, Any]) -> bool:
    device = named.get("device")
    return device is not None and device != META and isinstance(arguments[0], Tensor)


def _run(operation: Any, arguments: Any, named: Mapping[str, Any]) -> Any:
    if operation is torch.ops.aten._local_scalar_dense.default and arguments[0].device == META:
        return torch.zeros((), dtype=arguments[0].dtype).item()
    if (
        operation is torch.ops.aten._to_copy.default
        and arguments[0].device == META
        and _to_host(arguments, named)
    ):
        return torch.zeros(arguments[0].shape, dtype=named.get("dtype") or arguments[0].dtype)
    return operation(*arguments, **named)


class MetaEngine:
    """A network's parts on meta tensors; counting starts with the output of its dense part."""

    name, device, precision = "torch", "meta", "fp32"
    suppress = staticmethod(torchvision_nms)
    recording = None

    def __init__(self, network: FasterRCNN, counter: DispatchCounter) -> None:
        parts = copy.deepcopy(network).to(META)
        self._dense, self._head = (_channels_last(part) for part in (DensePart(parts), HeadNHWC(parts)))
        self._counter = counter

    def dense(self, pixels: Tensor) -> DenseOutput:
        """See `models.engines.protocol.Engine`."""
        self._counter.counting = False
        levels = (
            [level.contiguous(memory_format=torch.channels_last) for level in part]
            for part in self._dense(pixels)
        )
        output = DenseOutput(*levels)
        self._counter.counting = True
        return output

    def head(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """See `models.engines.protocol.Engine`."""
        logits, deltas = self._head(pooled.permute(0, 2, 3, 1))
        return logits, deltas


def _channels_last(part: nn.Module) -> nn.Module:
    return part.eval().to(memory_format=torch.channels_last)  # as TorchEngine has it


def meta_jobs(images: int, options: Options) -> list[Job]:
    """Jobs of one canvas without values."""
    pixels = torch.empty(*CANVAS, 3, device=META)
    return [Job(Canvas(pixels, CONTENT, IMAGE), options)] * images


def count(network: FasterRCNN, batches: Sequence[int] = BATCHES) -> Iterator[tuple[int, DispatchCounter]]:
    """Each batch size and what it dispatches, in a run to the detections."""
    card, counter = find_card(MODEL, None), DispatchCounter()
    detector = Detector(network, card, MetaEngine(network, counter))
    options = Options(card.score_threshold, card.nms_threshold, card.max_detections)
    for images in batches:
        jobs = meta_jobs(images, options)
        with counter.watch():
            detector.detect(jobs)
            counter.reset()
            detector.detect(jobs)
        counter.counting = False
        yield images, counter


def main() -> None:
    """Print the counts."""
    kind = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=kind)
    parser.add_argument("--json", action="store_true", help="print the counts as JSON")
    as_json = parser.parse_args().json
    card = find_card(MODEL, None)
    counts = {
        str(images): {"dispatches": counter.dispatches.total(), "host_reads": counter.host_reads.total()}
        for images, counter in count(build_network(card.architecture, len(card.labels)).eval())
    }
    if as_json:
        print(json.dumps({**counts, "meta": True}))
        return
    rows = [{"images": images, **numbers} for images, numbers in counts.items()]
    print_table(f"{MODEL}, canvas {CANVAS[0]}x{CANVAS[1]}, after the dense part", COLUMNS, rows)


if __name__ == "__main__":
    main()
