"""The fastest engine of those whose precision is proven accurate; its times are cached with the network."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from models.engines.automatic.openvino_parts import NO_BF16, PartsSource
from models.engines.automatic.timing import inputs_of, time_engines
from models.engines.names import PRECISIONS, EngineChoice, EngineUnavailable
from models.engines.openvino_engine import OpenVINOEngine, has_bf16
from models.precision.forecast import NO_ARTEFACT
from models.precision.machine import machine_key
from models.precision.proof import EXACT, PrecisionChoice, Proof, by_speed, ranked, without_times
from models.precision.stored import Times, read_times, times_file, write_times

OFFERED = PRECISIONS["openvino", "cpu"]

log = logging.getLogger(__name__)

Chosen = tuple[OpenVINOEngine, PrecisionChoice]


def fastest(parts: PartsSource, choice: EngineChoice) -> Chosen:
    """The engine and why it was chosen; a precision that cannot run here is not chosen."""
    proof = _on_this_cpu(choice)
    names = proof.accurate(OFFERED)
    if names == [EXACT]:
        return parts.engine(EXACT), without_times(proof, OFFERED, "openvino on a CPU")
    artefact = _artefact(choice.quantized)
    path = times_file(parts.folder, machine_key(choice.threads)) if parts.folder else None
    times = read_times(path) if path else None
    if times is None or times.artefact != artefact or set(names) != set(times.milliseconds):
        return _measured(parts, choice, proof, path)
    return _first_that_runs(parts, proof, times.milliseconds)


def _measured(parts: PartsSource, choice: EngineChoice, proof: Proof, path: Path | None) -> Chosen:
    """Time the engines, and cache their times in the file."""
    engines, faults = _engines(parts, proof.accurate(OFFERED))
    milliseconds, others = time_engines(engines, inputs_of(parts.network, choice.side))
    proof = proof.without(faults | others)
    if path is not None:
        write_times(Times(proof.model, _artefact(choice.quantized), milliseconds), path)
    chosen = by_speed(proof, OFFERED, milliseconds)
    return engines[chosen.precision], chosen


def _engines(parts: PartsSource, names: Sequence[str]) -> tuple[dict[str, OpenVINOEngine], dict[str, str]]:
    """The engines of these precisions, and the faults of those that cannot be built; fp32 can be."""
    engines: dict[str, OpenVINOEngine] = {}
    faults: dict[str, str] = {}
    for name in names:
        try:
            engines[name] = parts.engine(name)
        except (EngineUnavailable, RuntimeError) as error:
            if name == EXACT:
                raise
            faults[name] = str(error)
    return engines, faults


def _first_that_runs(parts: PartsSource, proof: Proof, milliseconds: Mapping[str, float]) -> Chosen:
    """As the times say; the artefact may have been damaged since."""
    for name in ranked(milliseconds):
        engines, faults = _engines(parts, [name])
        if name in engines:
            kept = {one: value for one, value in milliseconds.items() if one not in proof.missing}
            return engines[name], by_speed(proof, OFFERED, kept)
        proof = proof.without(faults)
    raise EngineUnavailable("no precision can run here")  # fp32 raises its own error before


def _on_this_cpu(choice: EngineChoice) -> Proof:
    proof = choice.proof
    missing = {} if has_bf16() else {"bf16": NO_BF16}
    if choice.quantized is None:
        missing |= {"int8": NO_ARTEFACT}
    return proof.without(missing | dict(proof.missing))


def _artefact(folder: Path | None) -> str:
    """Changes with the int8 artefact."""
    if folder is None:
        return ""
    files = sorted(folder.glob("*.json"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]
