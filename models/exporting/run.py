"""`rcnn export`: writes a model in another runtime's format, and runs the file beside our detector."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from models.detections import Detections
from models.detector import Detector, Job
from models.engines import EngineChoice, build_engine
from models.exporting.agreement import Agreement, compare
from models.exporting.errors import ExportError
from models.exporting.source import Source, Target
from models.images.decoder import Image, Pixels
from models.options import Options
from models.zoo.loading import load_network
from models.zoo.version import version_of


@dataclass(frozen=True)
class ExportSpec:
    """The arguments of `rcnn export`."""

    model: str
    target: str
    out: Path
    cache_dir: Path
    model_dir: Path | None = None


@dataclass(frozen=True)
class Exported:
    """What was written, how it compares with ours, at which score threshold, and how to load it."""

    files: tuple[Path, ...]
    agreement: Agreement
    threshold: float
    code: str = ""


def export(spec: ExportSpec, picture: Image) -> Exported:
    """Write the model to `out` if the file answers as ours do, on the picture and its mirror image.

    Raises ExportError, CardError, WeightsError, OSError; `out` is then as it was.
    """
    loaded = load_network(spec.model, spec.model_dir, spec.cache_dir)
    source = Source(loaded.network, loaded.card, version_of(loaded.network, loaded.card))
    target = _target(spec.target, source)
    options = Options(loaded.card.score_threshold, loaded.card.nms_threshold, loaded.card.max_detections)
    pictures = [picture.pixels, np.ascontiguousarray(picture.pixels[:, ::-1])]
    try:
        with tempfile.TemporaryDirectory(dir=spec.out.parent, prefix=".export-") as folder:
            written = Path(folder) / spec.out.name
            target.write(source, options, written)
            agreement, threshold = _check(target, source, options, written, pictures)
            files = _move(written, spec.out)
    except OSError as error:
        raise ExportError(
            f"{spec.out} cannot be written: {error}; choose an existing folder on a disk with free space"
        ) from error
    return Exported(files, agreement, threshold, target.loading_code(source, options, spec.out))


def _target(name: str, source: Source) -> Target:
    """The format of that name; raises ExportError where the network does not fit it."""
    if name == "torch":
        from models.exporting.torchvision_state import TORCH, check_is_torchvision

        check_is_torchvision(source.card)
        return TORCH
    from models.exporting.graph_files import ONNX, OPENVINO

    return ONNX if name == "onnx" else OPENVINO


def _move(written: Path, out: Path) -> tuple[Path, ...]:
    """Move the files to where `out` is, the named one last; its path comes first."""
    others = [path for path in sorted(written.parent.iterdir()) if path.is_file() and path != written]
    for path in (*others, written):
        path.replace(out.parent / path.name)
    return (out, *(out.parent / path.name for path in others))


def _check(
    target: Target, source: Source, options: Options, written: Path, pictures: Sequence[Pixels]
) -> tuple[Agreement, float]:
    """How the file agrees with ours, and the score threshold of the comparison; raises ExportError."""
    detect = _ours(source)
    ours = detect(pictures, options)
    agreement = compare(ours, target.run(source, options, written)(pictures))
    _demand(agreement, options)
    if agreement.ours:
        return agreement, options.score_threshold
    # Nothing to compare is usual with other classes than the picture's: the same with a lower threshold.
    everything = detect(pictures, replace(options, score_threshold=0.0))
    highest = max((float(one.scores[0]) for one in everything if len(one)), default=0.0)
    lower = replace(options, score_threshold=highest / 2)
    trial = written.parent / "trial" / written.name
    trial.parent.mkdir()
    target.write(source, lower, trial)
    agreement = compare(detect(pictures, lower), target.run(source, lower, trial)(pictures))
    _demand(agreement, lower)
    return agreement, lower.score_threshold


def _demand(agreement: Agreement, options: Options) -> None:
    if not agreement.holds:
        raise ExportError(
            f"the exported model answers otherwise: above a score of {options.score_threshold:.3g} ours "
            f"finds {agreement.ours} objects in two test pictures, it finds {agreement.theirs}, of which "
            f"{agreement.pairs} are the same; nothing was written"
        )


def _ours(source: Source) -> Callable[[Sequence[Pixels], Options], list[Detections]]:
    """Our detections, by torch on the CPU in fp32."""
    engine = build_engine(source.network, EngineChoice(device="cpu", engine="torch", precision="fp32"))
    detector = Detector(source.network, source.card, engine)

    def detect(pictures: Sequence[Pixels], options: Options) -> list[Detections]:
        return detector.detect([Job(detector.prepare(Image(pixels, "PNG")), options) for pixels in pictures])

    return detect
