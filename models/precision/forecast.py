"""What `auto` takes as the precision on this machine's CPU, before anything is loaded."""

from importlib.util import find_spec
from pathlib import Path

from models.precision.machine import machine_key
from models.precision.proof import EXACT, ON_CPU, PrecisionChoice, Proof, by_speed, without_times
from models.precision.stored import newest_times
from models.zoo.cards import Card
from models.zoo.quantized import has_artefact, model_argument

NO_ARTEFACT = "it has no artefact"
NOT_TIMED = "not timed yet"


def forecast(card: Card, cache_dir: Path, threads: int) -> PrecisionChoice:
    """The choice by the card's record and the times of earlier starts; `NOT_TIMED` before the first one."""
    if find_spec("openvino") is None:
        return PrecisionChoice(EXACT, "torch on a CPU has fp32 alone")
    missing = {} if has_artefact(card, cache_dir) else {"int8": NO_ARTEFACT}
    name = model_argument(card) if card.random_seed is None else ""
    proof = Proof(name, card.recorded_accuracy, missing)
    names = proof.accurate(ON_CPU)
    if names == [EXACT]:
        return without_times(proof, ON_CPU, "openvino on a CPU")
    times = newest_times(cache_dir, proof.model, machine_key(threads))
    timed = {name: value for name, value in times.milliseconds.items() if name in names} if times else {}
    if not timed:
        reason = f"the first start takes the fastest of {', '.join(names)}"
        return PrecisionChoice(NOT_TIMED, reason, proof.hint(ON_CPU))
    return by_speed(proof, ON_CPU, timed)
