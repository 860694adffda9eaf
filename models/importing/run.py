"""`rcnn import`: recognises a checkpoint's library, writes a card with its weights, and tries the model."""

from dataclasses import dataclass
from pathlib import Path

from models.checkpoints.errors import CheckpointError
from models.checkpoints.files import read_checkpoint
from models.checkpoints.recognise import State
from models.checkpoints.states import find_state, source_of
from models.detections import Detections
from models.detector import DetectorSpec, Job, load_detector
from models.images.decoder import Image
from models.importing import detectron2, detectron2_config, mmdetection, mmdetection_config, torchvision
from models.importing.cards import make_card, model_name, read_labels, write_card
from models.importing.imported import Imported
from models.options import Options
from models.zoo.cards import Card
from models.zoo.loading import filled_network
from models.zoo.weights import save_weights

GROUPED = ("backbone.bottom_up.res2.0.conv2.weight", "backbone.res2.0.conv2.weight")


@dataclass(frozen=True)
class ImportSpec:
    """The arguments of `rcnn import`."""

    checkpoint: Path
    out: Path
    config: Path | None = None
    labels: str | None = None
    name: str | None = None


@dataclass(frozen=True, eq=False)
class ImportedModel:
    """The card that was written, what was recognised, and what the model finds in the test picture."""

    card: Card
    imported: Imported
    found: Detections


def import_checkpoint(spec: ImportSpec, picture: Image) -> ImportedModel:
    """Write NAME.toml and NAME.safetensors into `out`, and run the model on the picture.

    Raises CheckpointError, CardError, WeightsError, OSError.
    """
    if not spec.checkpoint.is_file():
        raise CheckpointError(f"{spec.checkpoint}: no such file")
    try:
        imported = _read(spec)
    except CheckpointError as error:
        raise CheckpointError(f"{spec.checkpoint}: {error}") from error
    name = model_name(spec.name, spec.checkpoint)
    path = spec.out / f"{name}.toml"
    card = make_card(name, read_labels(spec.labels, imported), imported, path)
    network = filled_network(card, _floats(imported.state), spec.checkpoint)
    spec.out.mkdir(parents=True, exist_ok=True)
    written = write_card(card, save_weights(network, path.with_suffix(".safetensors"), half=False), path)
    return ImportedModel(written, imported, _try(written, picture))


def _read(spec: ImportSpec) -> Imported:
    checkpoint = read_checkpoint(spec.checkpoint)
    state = find_state(checkpoint)
    source = source_of(state)
    if source == "detectron2":
        return detectron2.convert(state, _detectron2_config(spec, state))
    if source == "mmdetection":
        config = mmdetection_config.read_config(spec.config) if spec.config else None
        return mmdetection.convert(state, checkpoint.content, config)
    if source == "torchvision":
        return torchvision.convert(state, checkpoint.content)
    shown = ", ".join(list(state)[:3])
    raise CheckpointError(
        f"its names ({shown}, …) are of none of detectron2, mmdetection and torchvision; "
        "give a checkpoint of a Faster R-CNN of one of them"
    )


def _detectron2_config(spec: ImportSpec, state: State) -> detectron2_config.Config:
    if spec.config:
        return detectron2_config.read_config(spec.config)
    grouped = next((state[name] for name in GROUPED if name in state), None)
    return detectron2_config.without_config(grouped is not None and grouped.shape[0] != grouped.shape[1])


def _floats(state: State) -> State:
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}


def _try(card: Card, picture: Image) -> Detections:
    """What the written model finds in the picture, on the CPU in fp32."""
    spec = DetectorSpec(str(card.path), Path(), device="cpu", engine="torch", precision="fp32")
    detector = load_detector(spec)
    options = Options(card.score_threshold, card.nms_threshold, card.max_detections)
    [found] = detector.detect([Job(detector.prepare(picture), options)])
    return found
