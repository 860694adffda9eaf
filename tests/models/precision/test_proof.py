"""What a card's record proves of its precisions."""

import re
from pathlib import Path
from typing import Any

import pytest

from models.precision.evidence import find_proof
from models.precision.proof import Proof, by_speed, on_torch, without_times
from models.precision.stored import Times, read_times, write_times
from models.zoo.accuracy import Accuracy
from models.zoo.cards import Card, CardError, read_card
from models.zoo.catalogue import find_card

OFFERED = ("fp32", "bf16", "int8")
ON_A_GPU = ("fp16", "fp32", "bf16")


def proof(missing: dict[str, str] | None = None, **measured: float) -> Proof:
    return Proof("mine", Accuracy(**measured) if measured else None, missing or {})


@pytest.mark.parametrize(
    ("measured", "accurate"),
    [
        ({}, ["fp32"]),
        ({"int8": 0.5}, ["fp32"]),  # nothing to compare it with
        ({"fp32": 0.5, "int8": 0.498, "bf16": 0.4979}, ["fp32", "int8"]),
        ({"fp32": 0.5, "int8": 0.6, "bf16": 0.5}, ["fp32", "bf16", "int8"]),
    ],
)
def test_what_loses_at_most_a_fifth_of_a_point_is_proven(
    measured: dict[str, float], accurate: list[str]
) -> None:
    assert proof(**measured).accurate(OFFERED) == accurate


def test_the_reason_names_what_is_against_each_other_precision() -> None:
    chosen = without_times(proof({"int8": "it has no artefact"}, fp32=0.5, bf16=0.49), OFFERED, "openvino")
    assert chosen.precision == "fp32"
    assert chosen.reason == "fp32 is exact; bf16: it loses 0.0100 AP; int8: it has no artefact"


@pytest.mark.parametrize(
    ("known", "hint"),
    [
        (proof({"int8": "it has no artefact"}), "bf16 and int8 .*: rcnn quantize --model mine --images DIR"),
        (proof(fp32=0.5, int8=0.5), "bf16 may be faster.*: rcnn evaluate DATA --model mine --record"),
        (proof({"bf16": "no such CPU"}), "int8 may be faster.*: rcnn evaluate DATA --model mine --record"),
    ],
)
def test_an_unproven_precision_has_a_hint_of_how_to_prove_it(known: Proof, hint: str) -> None:

    assert re.search(hint, known.hint(OFFERED) or "")


def test_nothing_is_hinted_where_each_is_proven_refuted_or_cannot_run() -> None:
    assert proof({"bf16": "no such CPU"}, fp32=0.5, int8=0.3).hint(OFFERED) is None
    assert Proof().hint(OFFERED) is None  # an untrained network


def test_the_fastest_is_taken_and_of_equally_fast_ones_the_most_exact() -> None:
    known = proof(fp32=0.8873, bf16=0.8873, int8=0.8867)
    chosen = by_speed(known, OFFERED, {"fp32": 22.0, "bf16": 30.0, "int8": 8.0})
    assert chosen.precision == "int8"
    assert "int8 8.0, fp32 22.0, bf16 30.0 ms here; AP 0.8867, fp32 0.8873" in chosen.reason
    assert by_speed(known, OFFERED, {"fp32": 10.0, "bf16": 9.9, "int8": 9.8}).precision == "fp32"


def test_a_gpu_takes_half_precision_unless_the_record_refutes_it() -> None:
    assert on_torch(proof(), ON_A_GPU, "cuda:0").precision == "fp16"
    assert on_torch(proof(fp32=0.5, int8=0.5), ON_A_GPU, "cuda:0").precision == "fp16"
    refuted = on_torch(proof(fp32=0.5, fp16=0.4), ON_A_GPU, "cuda:0")
    assert refuted.precision == "fp32"
    assert refuted.reason == "the fastest that is proven; fp16: it loses 0.1000 AP"
    assert on_torch(proof(fp32=0.5, fp16=0.4, bf16=0.5), ON_A_GPU, "cuda:0").precision == "bf16"


def card(folder: Path, tables: str) -> Card:
    path = folder / "mine.toml"
    path.write_text(
        f'name = "mine"\narchitecture = "small"\nweights = "file:w.pt"\nlabels = ["background", "a"]\n'
        f"{tables}"
    )
    return read_card(path)


@pytest.mark.parametrize(
    ("table", "measured"),
    [
        ('measure = "AP"\nfp32 = 0.5\nint8 = 0.49\nevaluated_images = 9\n', {"fp32": 0.5, "int8": 0.49}),
        ('measure = "agreement"\nfp32 = 1.0\nint8 = 0.99\n', None),
        ('measure = "AP"\nfp32 = "high"\n', None),
    ],
)
def test_a_card_of_an_earlier_release_has_its_record_in_int8(
    tmp_path: Path, table: str, measured: dict[str, Any] | None
) -> None:
    recorded = card(tmp_path, f"[int8]\n{table}").recorded_accuracy
    assert (recorded.measured if recorded else None) == measured


def test_an_accuracy_that_is_none_is_refused_by_its_key(tmp_path: Path) -> None:
    with pytest.raises(CardError, match=r"accuracy\.int8.*less than or equal to 1"):
        card(tmp_path, "[accuracy]\nint8 = 88.7\n")


def test_a_newer_record_keeps_other_precisions_on_the_same_data_alone() -> None:
    before = Accuracy(fp32=0.5, int8=0.49, data="mine, val", images=9)
    after = before.joined(Accuracy(fp32=0.51, bf16=0.5, data="mine, val", images=9))
    assert after.measured == {"fp32": 0.51, "bf16": 0.5, "int8": 0.49}
    assert before.joined(Accuracy(bf16=0.4, data="other", images=9)).measured == {"bf16": 0.4}


@pytest.mark.parametrize("name", ["shapes", "blood-cells"])
def test_the_bundled_models_are_proven_in_each_precision_of_a_cpu(name: str, tmp_path: Path) -> None:
    bundled = find_card(name, None)
    known, artefact = find_proof(bundled, bundled.weights_file, tmp_path)
    assert known.accurate(OFFERED) == list(OFFERED)
    assert artefact is not None


@pytest.mark.parametrize(
    "content",
    ["", "[]", '{"format": 0}', '{"format": 1, "model": "a", "artefact": "", "milliseconds": {"fp32": "x"}}'],
)
def test_times_that_cannot_be_read_are_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "times.json").write_text(content)
    assert read_times(tmp_path / "times.json") is None
    write_times(Times("a", "", {"fp32": 2.5}), tmp_path / "times.json")
    assert read_times(tmp_path / "times.json") == Times("a", "", {"fp32": 2.5})
