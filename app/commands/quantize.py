"""`rcnn quantize`: a model in int8, measured against fp32 before it is kept."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from app.commands import CommandFailed
from app.commands.arguments import QuantizeArguments
from app.commands.detect.inputs import find_images
from app.commands.shared.console import read_settings

if TYPE_CHECKING:
    from models.datasets import Dataset
    from models.quantization.run import Artefact, Recipe

NEEDED = ("openvino", "nncf", "faster_coco_eval")  # they come with the extra `quantize`


def run(arguments: QuantizeArguments) -> int:
    """Quantize, and say where the artefact lies and how it is served."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        text = f"{', '.join(missing)} is missing; install it: pip install 'rcnn-serve[quantize]'"
        raise CommandFailed(text)
    recipe = _recipe(arguments)
    from models.quantization.run import run as quantize

    console = Console(stderr=True)
    try:
        artefact = quantize(recipe, lambda line: console.print(line, highlight=False))
    except (ValueError, OSError) as error:  # card, weights, data, or int8 loses too much: the text says it
        raise CommandFailed(error) from error
    print(artefact.folder)
    console.print(_told(arguments, artefact), highlight=False, soft_wrap=True)
    return 0


def _told(arguments: QuantizeArguments, artefact: "Artefact") -> str:
    manifest = artefact.manifest
    kept = f"; in fp32: {', '.join(manifest.kept)}" if manifest.kept else ""
    card = ", also on the model's card" if artefact.on_card else ""
    serve = f"serve:  RCNN_PRECISION=int8 RCNN_MODEL={arguments.model} rcnn serve"
    if arguments.out is not None:
        serve = "to serve it, put the folder beside the model's weights, or into RCNN_CACHE_DIR"
    return (
        f"{manifest.measure}: fp32 {manifest.fp32:.4f}, int8 {manifest.int8:.4f} on "
        f"{manifest.evaluated_images} images{kept}\n"
        f"recorded in {artefact.folder / 'int8.json'}{card}\n{serve}"
    )


def _recipe(arguments: QuantizeArguments) -> "Recipe":
    from models.quantization.run import Recipe

    settings = read_settings(model=arguments.model)
    files = find_images([arguments.images])
    if not files:
        raise CommandFailed(f"no image in {arguments.images}; name a folder of 100 to 300 images")
    return Recipe(
        model=settings.model,
        cache_dir=settings.cache_dir,
        files=files,
        model_dir=settings.model_dir,
        count=arguments.count,
        data=_read(arguments.data, arguments.split),
        max_drop=arguments.max_drop,
        out=arguments.out,
        threads=settings.inference_threads,
    )


def _read(data: Path | None, split: str | None) -> "Dataset | None":
    from models.datasets import DatasetError, read_dataset

    if data is None:
        return None
    try:
        return read_dataset(data, split)
    except DatasetError as error:
        raise CommandFailed(error) from error
