"""Weights files: read without running code, refused with a reason, written small and whole."""

import pickle
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

from models.zoo.cards import Card
from models.zoo.download import PublishedFile, WeightsError, sha256_of
from models.zoo.weights import load_state, published_file, save_weights

COCO_URL = "https://download.pytorch.org/models/fasterrcnn_resnet50_fpn_coco-258fb6c6.pth"
COCO = "torchvision:FasterRCNN_ResNet50_FPN_Weights.COCO_V1"


def card(weights: str, sha256: str | None = None, path: Path | None = None) -> Card:
    labels = ("background", "cat")
    return Card(name="mine", architecture="small", weights=weights, labels=labels, sha256=sha256, path=path)


def state() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(7)
    return {
        "a.weight": torch.randn(3, 4, generator=generator),
        "a.bias": torch.randn(3, generator=generator),
        "norm.num_batches_tracked": torch.tensor(5),
    }


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor)
        assert found[name].dtype == tensor.dtype


@pytest.mark.parametrize("file_name", ["w.pt", "w.pth"])
@pytest.mark.parametrize("archive", [True, False], ids=["zip", "before PyTorch 1.6"])
@pytest.mark.parametrize("wrapper", [None, "model", "state_dict"])
def test_state_dicts_are_read(tmp_path: Path, file_name: str, archive: bool, wrapper: str | None) -> None:
    content = OrderedDict(state()) if wrapper is None else {"epoch": 3, wrapper: state()}
    path = tmp_path / file_name
    torch.save(content, path, _use_new_zipfile_serialization=archive)
    assert_same(load_state(path, None), state())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("file_name", ["w.pt", "w.safetensors"])
def test_floats_become_float32(tmp_path: Path, file_name: str, dtype: torch.dtype) -> None:
    stored = {"a": torch.tensor([[0.5, -2.0]], dtype=dtype), "n": torch.tensor(3)}
    path = tmp_path / file_name
    if path.suffix == ".pt":
        torch.save(stored, path)
    else:
        save_file(stored, path)
    assert_same(load_state(path, None), {"a": torch.tensor([[0.5, -2.0]]), "n": torch.tensor(3)})


class Armed:
    """An object whose pickle creates a file when it is read."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return open, (str(self.target), "w")


@pytest.mark.parametrize("archive", [True, False], ids=["zip", "before PyTorch 1.6"])
def test_a_pickle_that_would_run_code_is_refused_without_running_it(tmp_path: Path, archive: bool) -> None:
    target = tmp_path / "created"
    path = tmp_path / "w.pth"
    torch.save({"a.weight": Armed(target)}, path, _use_new_zipfile_serialization=archive)
    with pytest.raises(WeightsError) as refusal:
        load_state(path, None)
    assert not target.exists()
    assert "io.open" in str(refusal.value)
    assert "run code" in str(refusal.value)
    assert "weights_only" not in str(refusal.value)  # PyTorch's advice to switch the protection off

    pickle.loads(pickle.dumps(Armed(target))).close()  # noqa: S301 - shows that the pickle was armed
    assert target.exists()


def test_a_whole_network_in_a_pickle_is_refused(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=r"torch\.nn\.modules\.linear\.Linear.*save only the state dict"):
        load_state(tmp_path / "w.pt", None)


@pytest.mark.parametrize("file_name", ["w.pt", "w.pth", "w.safetensors"])
@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04", b"<html>not found</html>", b"\x80\x02J", bytes(5000)]
)
def test_a_file_that_is_no_weights_is_refused(tmp_path: Path, file_name: str, content: bytes) -> None:
    path = tmp_path / file_name
    path.write_bytes(content)
    with pytest.raises(
        WeightsError, match=r"w\.\w+: (not a readable weights file|an HTML page and not weights)"
    ):
        load_state(path, None)


@pytest.mark.parametrize("file_name", ["w.pt", "w.safetensors"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_truncated_file_is_refused(tmp_path: Path, file_name: str, share: float) -> None:
    path = tmp_path / file_name
    if path.suffix == ".pt":
        torch.save(state(), path)
    else:
        save_file(state(), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(WeightsError, match="get the file again"):
        load_state(path, None)


def test_a_wrong_hash_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file(state(), path)
    with pytest.raises(WeightsError, match=f"its SHA-256 is {sha256_of(path)}, the card says {'0' * 64}"):
        load_state(path, "0" * 64)


def write_state(path: Path, content: dict[str, Tensor]) -> None:
    if path.suffix == ".safetensors":
        save_file(content, path)
    else:
        torch.save({"model": content}, path)


@pytest.mark.parametrize("file_name", ["w.pt", "w.pth", "w.safetensors"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_value_that_is_not_finite_is_refused_with_its_tensor(
    tmp_path: Path, file_name: str, value: float
) -> None:
    content = state()
    content["a.weight"][1, 2] = value
    write_state(path := tmp_path / file_name, content)
    reason = r"a\.weight holds 1 of 12 values that are not finite \(NaN or infinite\); get the file again"
    for digest in (None, sha256_of(path)):
        with pytest.raises(WeightsError, match=reason):
            load_state(path, digest)


@pytest.mark.parametrize(
    ("dtype", "value"),
    [(torch.float16, float("nan")), (torch.bfloat16, float("inf")), (torch.float64, 1e300)],
)
def test_a_value_beyond_float32_is_refused_whatever_its_dtype(
    tmp_path: Path, dtype: torch.dtype, value: float
) -> None:
    content = {name: torch.full((2, 3), value, dtype=dtype) for name in ("a", "b", "c")}
    write_state(tmp_path / "w.safetensors", content | {"n": torch.tensor(3)})
    with pytest.raises(WeightsError, match=r"a holds 6 of 6 values.*so do 2 other tensors"):
        load_state(tmp_path / "w.safetensors", None)


def test_large_finite_values_are_kept_though_their_sum_is_infinite(tmp_path: Path) -> None:
    write_state(tmp_path / "w.safetensors", {"a": torch.full((4,), 3e38)})
    assert load_state(tmp_path / "w.safetensors", None)["a"].tolist() == pytest.approx([3e38] * 4)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ([torch.zeros(1)], "a list"),
        (torch.zeros(3), "a Tensor"),
        ({}, "nothing"),
        ({"epoch": 3, "weights": {}}, "'epoch' of type int"),
        ({1: torch.zeros(1)}, "1 of type Tensor"),
        ({"model": {"a": [1]}}, "'a' of type list"),
    ],
)
def test_what_is_no_state_dict_is_refused(tmp_path: Path, content: object, found: str) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=f"contains {found} instead of a state dict"):
        load_state(tmp_path / "w.pt", None)


def small_network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).to(memory_format=torch.channels_last)


@pytest.mark.parametrize("half", [True, False])
def test_saved_weights_come_back(tmp_path: Path, half: bool) -> None:
    network = small_network()
    norm_scale = torch.tensor([1e-7, 1.0, 1e5, 1e30])  # beyond float16 on both sides
    network.load_state_dict({"1.running_var": norm_scale}, strict=False)
    path = tmp_path / "w.safetensors"
    digest = save_weights(network, path, half=half)
    state = load_state(path, digest)
    weight = network.state_dict()["0.weight"]
    assert torch.equal(state["1.running_var"], norm_scale)
    assert torch.equal(state["0.weight"], weight.half().float() if half else weight)
    assert state.keys() == network.state_dict().keys() - {"1.num_batches_tracked"}
    assert load_file(path)["0.weight"].dtype == (torch.float16 if half else torch.float32)


def test_the_same_weights_make_the_same_file(tmp_path: Path) -> None:
    first = save_weights(small_network(), tmp_path / "a.safetensors", half=True)
    assert save_weights(small_network(), tmp_path / "b.safetensors", half=True) == first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "b.safetensors"]


def test_others_may_read_saved_weights(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    save_weights(small_network(), tmp_path / "w.safetensors", half=True)
    assert (tmp_path / "w.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize(("value", "half"), [(7e4, True), (float("nan"), False)])
def test_weights_beyond_the_dtypes_range_are_not_saved(tmp_path: Path, value: float, half: bool) -> None:
    network = small_network()
    network.load_state_dict({"0.weight": torch.full((4, 3, 3, 3), value)}, strict=False)
    with pytest.raises(WeightsError, match=r"0\.weight holds values that are not finite"):
        save_weights(network, tmp_path / "w.safetensors", half=half)
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"w\.safetensors cannot be written"):
        save_weights(small_network(), tmp_path / "absent" / "w.safetensors", half=True)
    with pytest.raises(WeightsError, match=r"w\.pth: weights are written as \.safetensors"):
        save_weights(small_network(), tmp_path / "w.pth", half=True)


@pytest.mark.parametrize("member", ["COCO_V1", "DEFAULT"])
def test_published_weights_come_from_torchvisions_address(member: str) -> None:
    source = published_file(card(f"torchvision:FasterRCNN_ResNet50_FPN_Weights.{member}"))
    assert FasterRCNN_ResNet50_FPN_Weights.COCO_V1.url == COCO_URL
    assert source == PublishedFile(COCO_URL, "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth", "258fb6c6")


def test_a_cards_hash_must_extend_the_published_one() -> None:
    source = published_file(card(COCO, sha256="258fb6c6" + "0" * 56))
    assert source is not None
    assert source.sha256 == "258fb6c6" + "0" * 56
    with pytest.raises(WeightsError, match="sha256 must start with 258fb6c6"):
        published_file(card(COCO, sha256="0" * 64))


@pytest.mark.parametrize(
    "name", ["No_Weights.COCO_V1", "FasterRCNN_ResNet50_FPN_Weights.V9", "resnet50.V1", "."]
)
def test_unknown_published_weights_are_refused(name: str) -> None:
    with pytest.raises(WeightsError, match=r"mine: torchvision has no weights"):
        published_file(card(f"torchvision:{name}"))


def test_a_users_file_is_published_nowhere(tmp_path: Path) -> None:
    assert published_file(card("file:mine.pt", path=tmp_path / "mine.toml")) is None
