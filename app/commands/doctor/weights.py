"""Checks of the models: whether their cards can be read and their weights are there. Fetches nothing."""

from collections.abc import Iterator
from pathlib import Path

from app.commands.doctor.check import Check, failed, ok, warning
from app.settings.cache_folder import why_unwritable
from app.settings.settings import Settings
from models.zoo.cards import AUTO, Card, CardError
from models.zoo.catalogue import find_card

MB = 1 << 20


def check_models(settings: Settings) -> Iterator[Check]:
    """Each model of RCNN_MODEL; needs torch."""
    from models.zoo.loading import BUNDLED, PREFERRED

    for name in settings.models:
        found = _check_model(PREFERRED if name == AUTO else name, settings)
        if name == AUTO and found.state != "ok":
            text = (
                f"{found.text}; where they cannot be fetched, {BUNDLED} serves, which knows only drawn shapes"
            )
            found = warning(found.name, text, found.advice)
        yield found


def _check_model(name: str, settings: Settings) -> Check:
    from models.zoo.download import WeightsError
    from models.zoo.quantized import QuantizedError

    title = f"model {name}"
    try:
        card = find_card(name, settings.model_dir)
        return _check_weights(title, card, settings)
    except (CardError, WeightsError, QuantizedError) as error:
        return failed(title, error)


def _check_weights(title: str, card: Card, settings: Settings) -> Check:
    """Raises WeightsError, QuantizedError."""
    from models.zoo.transports import shown
    from models.zoo.weights import published_file, weights_bytes

    if card.random_seed is not None:
        return warning(title, "untrained: it detects nothing", "train it: rcnn train DATA --out DIR")
    source = published_file(card)
    path = card.weights_file if source is None else settings.cache_dir / source.file_name
    if path is not None and path.is_file():
        return _check_int8(title, card, path, settings)
    if source is None or path is None:
        return failed(title, f"{path} is missing", "put the file there, or correct `weights` in the card")
    where = settings.weights_mirror or shown(source.url)
    size = weights_bytes(card, settings.cache_dir)
    text = f"its weights{f' ({size / MB:.0f} MB)' if size else ''} are not in the cache"
    if reason := why_unwritable(settings.cache_dir):
        return failed(title, f"{text}, and {reason}", "set RCNN_CACHE_DIR to a folder that can be written")
    advice = f"the first start fetches them from {where}; without a network put the file at {path}"
    return warning(title, text, advice)


def _check_int8(title: str, card: Card, path: Path, settings: Settings) -> Check:
    """Raises QuantizedError where RCNN_PRECISION is int8 and the card has no artefact of these weights."""
    from models.zoo.quantized import find_quantized

    text = f"{path}, {path.stat().st_size / MB:.0f} MB"
    if settings.precision != "int8":
        return ok(title, text)
    return ok(title, f"{text}; int8: {find_quantized(card, path, settings.cache_dir)}")
