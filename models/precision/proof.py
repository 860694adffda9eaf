"""Which precisions are accurate, by the record of a card, and why each other one is not taken."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from models.zoo.accuracy import Accuracy

EXACT = "fp32"
ON_CPU = (EXACT, "bf16", "int8")  # of OpenVINO
EXACTNESS = (EXACT, "fp16", "bf16", "int8")
MAX_LOSS = 0.002  # of AP, against fp32
MARGIN = 0.03  # of the time, by which each less exact precision must be faster than the next more exact one


@dataclass(frozen=True)
class PrecisionChoice:
    """The precision of a model, and why; `hint`: how to prove one that may be faster, if there is one.

    `milliseconds`: what each proven precision took on this machine, where they were timed.
    """

    precision: str
    reason: str
    hint: str | None = None
    milliseconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Proof:
    """What is known of a model's precisions.

    `model`: as a command names it, empty for one that is not to be proven. `missing`: why a precision cannot
    run here, by its name.
    """

    model: str = ""
    accuracy: Accuracy | None = None
    missing: Mapping[str, str] = field(default_factory=dict)

    def without(self, missing: Mapping[str, str]) -> "Proof":
        """The same, where these precisions cannot run, for the reason of each."""
        return replace(self, missing={**self.missing, **missing})

    def accurate(self, offered: Sequence[str]) -> list[str]:
        """The offered precisions that can run and are as accurate as fp32; fp32 is one of them."""
        return [name for name in offered if name == EXACT or self.objection(name) is None]

    def objection(self, name: str) -> str | None:
        """Why a precision is not taken; None where its record proves it."""
        if name in self.missing:
            return f"{name}: {self.missing[name]}"
        measured = self.accuracy.measured if self.accuracy else {}
        if EXACT not in measured or name not in measured:
            return f"{name}: its AP is not recorded"
        loss = measured[EXACT] - measured[name]
        return f"{name}: it loses {loss:.4f} AP" if round(loss, 4) > MAX_LOSS else None

    def objections(self, offered: Sequence[str]) -> list[str]:
        """What is against each of the offered precisions that is not taken."""
        return [text for name in offered if name != EXACT and (text := self.objection(name)) is not None]

    def hint(self, offered: Sequence[str]) -> str | None:
        """The command that proves a precision that may be faster; None where each is proven or refuted."""
        measured = self.accuracy.measured if self.accuracy else {}
        proven = measured if EXACT in measured else {}
        unproven = [name for name in offered if name not in proven and name != EXACT]
        runs = [name for name in unproven if name not in self.missing]
        if not self.model or not unproven:
            return None
        if "int8" in unproven and "int8" in self.missing:  # quantizing measures the others too
            proves = f"rcnn quantize --model {self.model} --images DIR --data DATA"
            return f"{' and '.join([*runs, 'int8'])} may be faster than fp32; to prove it: {proves}"
        if runs:
            proves = f"rcnn evaluate DATA --model {self.model} --record"
            return f"{' and '.join(runs)} may be faster than fp32; to prove it: {proves}"
        return None


def without_times(proof: Proof, offered: Sequence[str], where: str) -> PrecisionChoice:
    """The choice where fp32 alone is proven; `where`: engine and device."""
    objections = proof.objections(offered)
    reason = "; ".join(["fp32 is exact", *objections]) if objections else f"{where} has fp32 alone"
    return PrecisionChoice(EXACT, reason, proof.hint(offered))


def by_speed(proof: Proof, offered: Sequence[str], milliseconds: Mapping[str, float]) -> PrecisionChoice:
    """The fastest of the precisions that were timed."""
    [name, *_] = ranked(milliseconds)
    times = ", ".join(f"{one} {milliseconds[one]:.1f}" for one in ranked(milliseconds))
    measured = proof.accuracy.measured if proof.accuracy else {}
    reasons = [f"the fastest of those that are proven: {times} ms here", *proof.objections(offered)]
    if name != EXACT and name in measured and EXACT in measured:
        reasons.insert(1, f"AP {measured[name]:.4f}, fp32 {measured[EXACT]:.4f}")
    return PrecisionChoice(name, "; ".join(reasons), proof.hint(offered), dict(milliseconds))


def ranked(milliseconds: Mapping[str, float]) -> list[str]:
    """The precisions, fastest first; of nearly equal ones the most exact."""
    order = [name for name in EXACTNESS if name in milliseconds]
    return sorted(order, key=lambda name: milliseconds[name] * (1 + MARGIN * order.index(name)))


def on_torch(proof: Proof, offered: Sequence[str], device: str) -> PrecisionChoice:
    """The first of the offered precisions unless a record refutes it; half ones take a GPU the same time."""
    usual = offered[0]
    recorded = proof.accuracy is not None and usual in proof.accuracy.measured
    objection = proof.objection(usual) if recorded and usual != EXACT else None
    if objection is None:
        return PrecisionChoice(usual, f"the default of torch on {device}")
    half = [name for name in proof.accurate(offered) if name != EXACT]
    return PrecisionChoice((half or [EXACT])[0], f"the fastest that is proven; {objection}")
