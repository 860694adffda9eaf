"""Names of models as clients write them: NAME, NAME/1, NAME/VERSION, or an alias of RCNN_MODEL_ALIASES."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from app.errors import UnknownModel
from app.schemas.limits import MAX_QUOTED
from app.serving.model import ANY_VERSION, LoadedModel


@dataclass(frozen=True)
class ModelName:
    """A name of the catalogue, and the version asked for; "" is any."""

    name: str
    version: str = ""


def candidates(text: str, aliases: Mapping[str, str]) -> Iterator[ModelName]:
    """What a text may stand for, the likeliest first: an alias may have a slash, and so may a version."""
    yield ModelName(text)
    if text in aliases:
        yield ModelName(aliases[text])
    name, _, version = text.rpartition("/")
    if name and version:
        yield ModelName(name, version)
        if name in aliases:
            yield ModelName(aliases[name], version)


def check_version(model: LoadedModel, version: str) -> None:
    """Raise UnknownModel for a version that is not the model's own; "" matches any."""
    if version not in ("", ANY_VERSION, model.version):
        raise UnknownModel(
            f"no version {version[:MAX_QUOTED]!r} here; {model.name} is at {model.version}: ask for that "
            f"one, for {ANY_VERSION}, or for none"
        )
