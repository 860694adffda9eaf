"""`rcnn import`: a checkpoint of detectron2, mmdetection or torchvision as a model that can be served."""

from typing import TYPE_CHECKING

from rich.console import Console

from app.commands import CommandFailed
from app.commands.import_arguments import ImportArguments
from app.commands.shared.checks import make_folder

if TYPE_CHECKING:
    from models.importing.run import ImportedModel

PICTURE = (5, 0)  # seed and index of the drawn scene that the model is tried on


def run(arguments: ImportArguments) -> int:
    """Import; print the card's path, what was recognised and how to serve it."""
    from models.images.decoder import Image
    from models.importing.run import ImportSpec, import_checkpoint
    from models.shapes.scenes import draw_scene

    spec = ImportSpec(
        checkpoint=arguments.checkpoint,
        out=make_folder("--out", arguments.out),
        config=arguments.config,
        labels=arguments.labels,
        name=arguments.name,
    )
    try:
        model = import_checkpoint(spec, Image(draw_scene(*PICTURE).pixels, "PNG"))
    except (ValueError, OSError, MemoryError) as error:  # checkpoint, configuration or card: the text says it
        raise CommandFailed(error) from error
    print(model.card.path)
    Console(stderr=True).print(_summary(model), highlight=False, soft_wrap=True, markup=False)
    return 0


def _summary(model: "ImportedModel") -> str:
    card, found = model.card, model.found
    lines = [
        f"{model.imported.source}, {card.architecture}, {len(card.labels) - 1} classes: "
        f"{', '.join(card.labels[1:6])}{', …' if len(card.labels) > 6 else ''}",
        *(f"note: {note}" for note in model.imported.notes),
        f"check: {len(found)} detections in a test picture of shapes{_best(model)}",
        f"serve: RCNN_MODEL={card.path} rcnn serve",
    ]
    return "\n".join(lines)


def _best(model: "ImportedModel") -> str:
    found = model.found
    if not len(found):
        return f" above its score threshold of {model.card.score_threshold}, as is usual with other classes"
    return f", best: {model.card.labels[int(found.labels[0])]} {float(found.scores[0]):.3f}"
