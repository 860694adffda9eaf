"""The options of `rcnn bench`. Every start of `rcnn` reads this file, so it imports little."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from app.commands.arguments import Json


@dataclass(frozen=True)
class BenchLineageArguments:
    """The network, the images, and the share of R-CNN's work that is timed."""

    architecture: Annotated[str, Option(help="Architecture, as in a model card.")] = "small"
    images: Annotated[
        Path | None,
        Option(help="Folder of images; default: drawn scenes.", metavar="DIR", exists=True, file_okay=False),
    ] = None
    count: Annotated[int, Option(help="At most this many images.", min=1)] = 4
    proposals: Annotated[int, Option(help="Maximum Selective Search proposals an image.", min=1)] = 2000
    crops: Annotated[
        int, Option(help="Proposals an image that R-CNN is timed on; the time is scaled to all.", min=1)
    ] = 64
    device: Annotated[str, Option(help="auto, cpu, cuda or cuda:N.")] = "auto"
    json: Json = False


@dataclass(frozen=True)
class BenchLoadArguments:
    """The service, the load, the image and the model."""

    url: Annotated[str, Argument(help="Address of the service.", metavar="URL")]
    rate: Annotated[
        float | None,
        Option(
            help="Requests a second, each sent when it is due, whatever the service does.",
            metavar="R",
            min=0.01,
            max=10_000,
        ),
    ] = None
    connections: Annotated[
        int | None,
        Option(
            help="Requests at a time, each sent when the one before is answered; default without --rate: 4.",
            metavar="N",
            min=1,
            max=1000,
        ),
    ] = None
    seconds: Annotated[float, Option(help="Time of the load.", metavar="S", min=0.1, max=3600)] = 10.0
    image: Annotated[
        Path | None,
        Option(
            help="Image file to send; default: a sample of 481x295 px.",
            metavar="FILE",
            exists=True,
            dir_okay=False,
        ),
    ] = None
    model: Annotated[
        str | None, Option(help="Model of the service; default: its default one.", metavar="NAME")
    ] = None
    api_key: Annotated[str | None, Option(help="API key of the service; default: RCNN_API_KEY.")] = None
    json: Json = False
