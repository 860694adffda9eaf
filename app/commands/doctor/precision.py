"""Check of the precision: the one that was named, or what `auto` takes for each model. Loads nothing."""

from collections.abc import Iterator

from app.commands.doctor.check import Check, failed, ok
from app.settings.settings import Settings
from models.precision.forecast import forecast
from models.precision.proof import EXACT
from models.zoo.cards import AUTO, Card, CardError
from models.zoo.catalogue import find_card


def check_precision(engine: str, device: str, settings: Settings) -> Iterator[Check]:
    """The precision of each model on an engine and a kind of device; needs torch."""
    if settings.precision != AUTO:
        yield _check_named(device, settings.precision)
    elif device == "cuda":
        yield ok("precision", "fp16, the default on a GPU, unless the record of a model's card is against it")
    elif engine == "torch":
        yield ok("precision", f"{EXACT}: torch on a CPU has no other")
    else:
        yield from (_forecast(card, settings) for card in _cards(settings))


def _check_named(device: str, precision: str) -> Check:
    from models.engines.openvino_engine import has_bf16

    if precision == "bf16" and device == "cpu" and not has_bf16():
        return failed("precision", "this CPU has no bf16 arithmetic", "set RCNN_PRECISION to auto or fp32")
    return ok("precision", f"{precision}, as RCNN_PRECISION says")


def _forecast(card: Card, settings: Settings) -> Check:
    choice = forecast(card, settings.cache_dir, settings.inference_threads)
    return Check("precision", "ok", f"{card.name}: {choice.precision}: {choice.reason}", choice.hint or "")


def _cards(settings: Settings) -> Iterator[Card]:
    """The cards of RCNN_MODEL; of one that cannot be read the check of models says why."""
    from models.zoo.loading import PREFERRED

    for name in settings.models:
        try:
            yield find_card(PREFERRED if name == AUTO else name, settings.model_dir)
        except CardError:
            continue
