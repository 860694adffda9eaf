"""`rcnn quantize`: a model in int8, measured against fp32 before it is kept."""

from dataclasses import replace
from typing import TYPE_CHECKING

from rich.console import Console

from app.commands import CommandFailed
from app.commands.arguments import QuantizeArguments
from app.commands.detect.inputs import find_images
from app.commands.shared.checks import require_extra
from app.commands.shared.console import read_settings
from app.commands.shared.dataset import data_options, data_title, read_data
from app.commands.shared.progress import download_bar, new_bar
from app.commands.shared.recording import command_line
from models.precision.proof import MAX_LOSS

if TYPE_CHECKING:
    from models.datasets import Dataset
    from models.quantization.run import Artefact, QuantizationConfig


def run(arguments: QuantizeArguments) -> int:
    """Quantize; print the artefact's folder and how to serve it."""
    require_extra("quantize")
    config = _config(arguments)
    from models.quantization.run import run as quantize
    from models.zoo.download import Downloads

    console = Console(stderr=True)
    try:
        with new_bar(console, "Quantizing") as bar, download_bar(bar) as observe:
            bar.add_task("", total=None)
            config = replace(config, downloads=Downloads(config.downloads.mirror, observe))
            artefact = quantize(config, lambda line: console.print(line, highlight=False))
    except (ValueError, OSError) as error:  # card, weights, data, or int8 loses too much: the text says it
        raise CommandFailed(error) from error
    print(artefact.folder)
    console.print(_summary(arguments, artefact), highlight=False, soft_wrap=True)
    return 0


def _summary(arguments: QuantizeArguments, artefact: "Artefact") -> str:
    manifest = artefact.manifest
    kept = f"; in fp32: {', '.join(manifest.kept)}" if manifest.kept else ""
    card = ", also on the model's card" if artefact.on_card else ""
    serve = f"serve:  RCNN_MODEL={arguments.model} rcnn serve"
    if manifest.measure != "AP" or manifest.fp32 - manifest.int8 > MAX_LOSS:
        serve = f"serve:  RCNN_PRECISION=int8 RCNN_MODEL={arguments.model} rcnn serve"
    if arguments.out is not None:
        serve = "to serve it, put the folder beside the model's weights, or into RCNN_CACHE_DIR"
    return (
        f"{manifest.measure}: fp32 {manifest.fp32:.4f}, int8 {manifest.int8:.4f} on "
        f"{manifest.evaluated_images} images{kept}\n"
        f"recorded in {artefact.folder / 'int8.json'}{card}\n{serve}"
    )


def _annotated(arguments: QuantizeArguments) -> "Dataset | None":
    if arguments.data is None:
        return None
    return read_data(arguments.data, arguments.split, options=data_options(arguments))


def _config(arguments: QuantizeArguments) -> "QuantizationConfig":
    from models.quantization.run import QuantizationConfig
    from models.zoo.download import Downloads

    settings = read_settings(model=arguments.model)
    files = find_images([arguments.images])
    if not files:
        raise CommandFailed(f"no image in {arguments.images}; name a folder of 100 to 300 images")
    return QuantizationConfig(
        model=settings.models[0],
        cache_dir=settings.cache_dir,
        files=files,
        model_dir=settings.model_dir,
        count=arguments.count,
        data=_annotated(arguments),
        data_title=data_title(arguments.data, arguments.split) if arguments.data else "",
        command=command_line(),
        max_drop=arguments.max_drop,
        out=arguments.out,
        threads=settings.inference_threads,
        downloads=Downloads(settings.weights_mirror),
    )
