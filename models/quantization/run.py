"""Quantization of a model: quantize, measure, keep more layers in fp32 until the loss is small enough."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import uuid4

from models.datasets import Dataset
from models.detector import Detector
from models.engines.conversion import Parts, write_parts
from models.engines.openvino_engine import OpenVINOEngine, has_bf16
from models.engines.part_cache import obtain_parts, part_folder
from models.evaluation.accuracy import MeasuredOn, accuracy_record
from models.quantization.calibration import Calibration, RecordingEngine, calibrate, choose_evenly
from models.quantization.measure import AgreementMeasure, PrecisionMeasure, QualityMeasure
from models.quantization.post_training import STEPS, quantize
from models.zoo.card_text import can_record, record_accuracy, write_tables
from models.zoo.download import Downloads
from models.zoo.loading import LoadedNetwork, load_network
from models.zoo.quantized import (
    FORMAT,
    Manifest,
    fingerprint,
    folder_name,
    quantized_home,
    write_manifest,
)

Report = Callable[[str], None]
MAX_DROP = {"AP": 0.005, "agreement": 0.05}


class QuantizationFailed(ValueError):
    """No artefact was written; the text says why and what to do."""


@dataclass(frozen=True, eq=False)
class QuantizationConfig:
    """The model, images for calibration, annotated images for measuring (or none), and the allowed loss.

    `max_drop` None: 0.005 of AP, or 0.05 of the agreement. `out` None: beside the weights.
    """

    model: str
    cache_dir: Path
    files: Sequence[Path]
    model_dir: Path | None = None
    count: int = 200
    data: Dataset | None = None
    data_title: str = ""  # as the card's [accuracy] names the data
    command: str = ""
    max_drop: float | None = None
    out: Path | None = None
    threads: int = 0
    downloads: Downloads = field(default_factory=Downloads)


@dataclass(frozen=True, eq=False)
class Artefact:
    """What was written: the folder, its manifest, and whether the model's card was updated."""

    folder: Path
    manifest: Manifest
    on_card: bool


def run(config: QuantizationConfig, report: Report) -> Artefact:
    """Quantize and write; raises QuantizationFailed, or ValueError or OSError for card, weights and data."""
    loaded = load_network(config.model, config.model_dir, config.cache_dir, downloads=config.downloads)
    home = config.out or quantized_home(loaded.card, config.cache_dir)
    home.mkdir(parents=True, exist_ok=True)
    parts = obtain_parts(loaded.network, part_folder(loaded.network, config.cache_dir))
    recorder = RecordingEngine(OpenVINOEngine(parts, "fp32", config.threads))
    detector = Detector(loaded.network, loaded.card, recorder)
    report(f"calibrating on {min(config.count, len(config.files))} images")
    calibration = calibrate(detector, recorder, choose_evenly(config.files, config.count))
    if not calibration.pooled:
        raise QuantizationFailed(
            "none of the images can be read, or no proposal was found in them; name another folder of images"
        )
    measure = _quality_measure(config, calibration)
    candidates = _Candidates(loaded, parts, calibration, config)
    quantized, kept, fp32, int8 = _search(candidates, measure, report)
    manifest = _manifest(loaded, measure, len(calibration.canvases), kept, (fp32, int8))
    folder = _write(quantized, manifest, home / folder_name(loaded.card))
    on_card = config.out is None and can_record(loaded.card)
    if on_card:
        _record(candidates, manifest, measure, report)
    return Artefact(folder, manifest, on_card)


def _record(candidates: "_Candidates", manifest: Manifest, measure: QualityMeasure, report: Report) -> None:
    """Write on the card how the artefact was made, and the AP of each precision where it was measured."""
    card, config = candidates.loaded.card, candidates.config
    write_tables(card, {"int8": _int8_table(manifest)}, manifest.weights)
    if manifest.measure != "AP":
        return
    measured = {"fp32": manifest.fp32, "int8": manifest.int8}
    if has_bf16():
        measured["bf16"] = round(measure(candidates.detector(candidates.parts, "bf16")), 4)
        report(f"bf16: AP {measured['bf16']:.4f}")
    on = MeasuredOn(config.data_title, measure.images, config.command)
    record_accuracy(card, accuracy_record(measured, on), manifest.weights)


def _int8_table(manifest: Manifest) -> dict[str, Any]:
    """How the artefact was made, and the agreement of its answers where no AP was measured."""
    table: dict[str, Any] = {
        "artefact": f"{manifest.model}.int8-v{manifest.format}",
        "images": manifest.images,
        "kept_fp32": list(manifest.kept),
    }
    if manifest.measure == "agreement":
        table |= {"agreement": manifest.int8, "evaluated_images": manifest.evaluated_images}
    return table


@dataclass(frozen=True, eq=False)
class _Candidates:
    loaded: LoadedNetwork
    parts: Parts
    calibration: Calibration
    config: QuantizationConfig

    def detector(self, parts: Parts, precision: str) -> Detector:
        engine = OpenVINOEngine(parts, precision, self.config.threads)
        return Detector(self.loaded.network, self.loaded.card, engine)


def _quality_measure(config: QuantizationConfig, calibration: Calibration) -> QualityMeasure:
    return PrecisionMeasure(config.data) if config.data else AgreementMeasure(calibration.canvases.files)


def _search(
    candidates: _Candidates, measure: QualityMeasure, report: Report
) -> tuple[Parts, tuple[str, ...], float, float]:
    """The first parts whose loss is allowed, the layers that stay fp32, and both measured values."""
    allowed = candidates.config.max_drop
    allowed = MAX_DROP[measure.measure] if allowed is None else allowed
    fp32 = measure(candidates.detector(candidates.parts, "fp32"))
    report(f"fp32: {measure.measure} {fp32:.4f} on {measure.images} images")
    drops = []
    for kept in STEPS:
        parts = quantize(candidates.parts, candidates.calibration, kept)
        int8 = measure(candidates.detector(parts, "int8"))
        drops.append(fp32 - int8)
        but = f" but for {', '.join(kept)}" if kept else ""
        report(f"int8{but}: {measure.measure} {int8:.4f}")
        if fp32 - int8 <= allowed:
            return parts, kept, fp32, int8
    raise QuantizationFailed(
        f"int8 loses at least {min(drops):.4f} {measure.measure}, {allowed:.4f} are allowed; "
        "nothing was written. Calibrate on more images, or on images as the model will get, "
        "or allow more with --max-drop"
    )


def _manifest(
    loaded: LoadedNetwork,
    measure: QualityMeasure,
    images: int,
    kept: tuple[str, ...],
    values: tuple[float, float],
) -> Manifest:
    return Manifest(
        format=FORMAT,
        model=loaded.card.name,
        architecture=loaded.card.architecture,
        weights=fingerprint(loaded.card, loaded.weights),
        openvino=version("openvino"),
        nncf=version("nncf"),
        date=str(date.today()),
        images=images,
        kept=kept,
        measure=measure.measure,
        evaluated_images=measure.images,
        fp32=round(values[0], 4),
        int8=round(values[1], 4),
    )


def _write(parts: Parts, manifest: Manifest, folder: Path) -> Path:
    """Write the artefact atomically, in place of an older one."""
    partial = folder.with_name(f"{folder.name}.{uuid4().hex}.partial")
    try:
        partial.mkdir()
        write_parts(parts, partial)
        write_manifest(manifest, partial)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder
