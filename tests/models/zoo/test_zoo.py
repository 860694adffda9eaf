"""From a name to a network: it answers as its weights were trained to, or says why it cannot."""

import logging
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import get_model, get_weight

from models.networks import ARCHITECTURES, build_network
from models.zoo.cards import Card, CardError
from models.zoo.catalogue import catalogue, find_card
from models.zoo.download import PublishedFile, WeightsError, sha256_of
from models.zoo.loading import load_network
from models.zoo.weights import published_file, save_weights
from tests.support.data.cards import write_model
from tests.support.process import closed_port

pytestmark = pytest.mark.network
LABELS = ("background", "cat", "dog")


def write(folder: Path, **changes: object) -> str:
    """Save a small random network with its card; the card's path."""
    return str(write_model(folder, random_network("small", 3), **({"labels": LABELS} | changes)))


@cache
def random_network(architecture: str, num_classes: int) -> nn.Module:
    """A network whose activations vary so little that the epsilon of its norms decides the answer."""
    torch.manual_seed(11)
    network = build_network(architecture, num_classes)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for module in network.backbone.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data *= 2e-3
    for norm in norms:
        # One image in training mode sets the statistics, with no epsilon that would damp layer after layer.
        norm.momentum, norm.eps = 1.0, 1e-12
    features(network.train())
    for norm in norms:
        norm.eps = 1e-5
    return cast(nn.Module, network.eval())


def without_counters(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}


def features(network: nn.Module) -> list[Tensor]:
    image = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(5))
    with torch.inference_mode():
        backbone: Any = network.backbone
        return list(backbone(image.to(next(backbone.parameters()).dtype)).values())


def test_a_users_model_is_loaded_by_path_and_by_name(tmp_path: Path) -> None:
    path = write(tmp_path)
    expected = random_network("small", 3)
    for model, model_dir in ((path, None), ("mine", tmp_path)):
        loaded = load_network(model, model_dir, tmp_path / "cache")
        assert loaded.card.labels == ("background", "cat", "dog")
        assert loaded.fallback_reason is None
        assert not loaded.network.training
        found, wanted = loaded.network.state_dict(), expected.state_dict()
        assert all(torch.equal(found[name], wanted[name]) for name in without_counters(wanted))
    assert not (tmp_path / "cache").exists()


def test_weights_stored_in_half_precision_answer_nearly_the_same(tmp_path: Path) -> None:
    path = write(tmp_path, sha256=None)
    network = random_network("small", 3)
    save_weights(network, tmp_path / "mine.safetensors", half=True)
    loaded = load_network(path, None, tmp_path).network
    assert all(tensor.dtype == torch.float32 for tensor in loaded.parameters())
    for found, wanted in zip(features(loaded), features(network), strict=True):
        assert not torch.equal(found, wanted)
        torch.testing.assert_close(found, wanted, rtol=0.02, atol=0.02 * float(wanted.abs().max()))


# -- what does not fit ------------------------------------------------------------------------------------


def save_state(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    state = random_network("small", 3).state_dict()
    change(state)
    torch.save(state, folder / "mine.pth")


@pytest.mark.parametrize(
    ("change", "fragments"),
    [
        (lambda s: s.pop("rpn.head.bbox_pred.bias"), ["missing rpn.head.bbox_pred.bias"]),
        (lambda s: s.update({"extra.weight": torch.zeros(1)}), ["unexpected extra.weight"]),
        (
            lambda s: [s.pop(key) for key in list(s)[:40] if "num_b" not in key],
            ["missing", "; and ", " more"],
        ),
        (
            lambda s: s.update({"roi_heads.box_predictor.cls_score.bias": torch.zeros(91)}),
            ["size mismatch for roi_heads.box_predictor.cls_score.bias", "[91]", "[3]"],
        ),
    ],
    ids=["missing", "unexpected", "many missing", "wrong shape"],
)
def test_weights_that_do_not_fit_are_refused_with_the_first_differences(
    tmp_path: Path, change: Callable[[dict[str, Tensor]], object], fragments: list[str]
) -> None:
    path = write(tmp_path, weights="file:mine.pth", sha256=None)
    save_state(tmp_path, change)
    with pytest.raises(WeightsError) as refusal:
        load_network(path, None, tmp_path)
    for fragment in (*fragments, "mine.pth", "architecture small", "3 labels", "Set architecture and labels"):
        assert fragment in str(refusal.value)
    assert len(str(refusal.value)) < 1500


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"labels": ("background", "cat")}, r"cls_score\.weight"),
        ({"architecture": "mobilenet_v3_large_fpn"}, r"and \d+ more"),
        ({"sha256": "0" * 64}, "the card says 0000"),
        ({"weights": "file:absent.pt"}, r"absent\.pt: no such weights file"),
    ],
)
def test_a_card_that_does_not_fit_its_weights_is_refused(
    tmp_path: Path, changes: dict[str, object], reason: str
) -> None:
    with pytest.raises(WeightsError, match=reason):
        load_network(write(tmp_path, **changes), None, tmp_path)


def test_an_unknown_architecture_names_the_card_and_the_known_ones(tmp_path: Path) -> None:
    path = write(tmp_path, architecture="yolo")
    with pytest.raises(CardError, match=r"mine\.toml: unknown architecture 'yolo'.*resnet50_fpn"):
        load_network(path, None, tmp_path)


# -- published weights ------------------------------------------------------------------------------------

BUILDERS = {
    "coco-r50-fpn": "fasterrcnn_resnet50_fpn",
    "coco-r50-fpn-v2": "fasterrcnn_resnet50_fpn_v2",
    "coco-mobilenet-fpn": "fasterrcnn_mobilenet_v3_large_fpn",
    "coco-mobilenet-320-fpn": "fasterrcnn_mobilenet_v3_large_320_fpn",
}


def publish(folder: Path, model: str) -> PublishedFile:
    """Save random weights as torchvision published its own: frozen norms, and file names with a hash."""
    card = find_card(model, None)
    state = random_network(card.architecture, len(card.labels)).state_dict()
    path = folder / f"{model}.pth"
    torch.save(state if model.endswith("v2") else without_counters(state), path)
    return PublishedFile("http://127.0.0.1:9/unused", path.name, sha256_of(path)[:8])


@pytest.mark.parametrize("model", BUILDERS)
def test_published_weights_answer_as_torchvision_does_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    source = publish(tmp_path, model)
    loaded = load_network(model, None, tmp_path, resolve=lambda _card: source)
    published = torch.load(tmp_path / source.file_name, weights_only=True)
    # torchvision's own download, answered from the same file.
    monkeypatch.setattr(
        "torchvision.models._api.load_state_dict_from_url", lambda _url, **_options: published
    )
    theirs = get_model(BUILDERS[model], weights=get_weight(str(loaded.card.published_weights))).eval()
    # In double precision: what makes the epsilon decide makes float32's rounding count, more on some CPUs.
    for found, wanted in zip(features(loaded.network.double()), features(theirs.double()), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6 * float(wanted.abs().max()))


def test_the_key_names_of_the_oldest_published_file_are_understood(tmp_path: Path) -> None:
    path = write(tmp_path, weights="file:mine.pth", sha256=None)

    def as_in_2019(state: dict[str, Tensor]) -> None:
        for name in list(state):
            old = name.replace("head.conv.0.0.", "head.conv.")
            if "fpn." in old:
                old = old.replace(".0.weight", ".weight").replace(".0.bias", ".bias")
            state[old] = state.pop(name)
        assert {"rpn.head.conv.weight", "backbone.fpn.inner_blocks.0.weight"} <= state.keys()
        vars(state).pop("_metadata")

    save_state(tmp_path, as_in_2019)
    for found, wanted in zip(
        features(load_network(path, None, tmp_path).network),
        features(random_network("small", 3)),
        strict=True,
    ):
        assert torch.equal(found, wanted)


# -- auto -------------------------------------------------------------------------------------------------


def offline(card: Card) -> PublishedFile | None:
    """Where weights are published, on a machine without a network."""
    source = published_file(card)
    if source is None:
        return None
    return PublishedFile(f"http://127.0.0.1:{closed_port()}/x", source.file_name, source.sha256)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def test_auto_takes_the_published_model_of_the_cache(tmp_path: Path) -> None:
    """`fetch` is called in any case: it finds the file in the cache, or downloads it."""
    source = publish(tmp_path, "coco-r50-fpn")
    loaded = load_network("auto", None, tmp_path, resolve=lambda _card: source)
    assert loaded.card.name == "coco-r50-fpn"
    assert (loaded.fallback_reason, loaded.hint) == (None, None)


def test_auto_falls_back_to_the_bundled_model_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    loaded = load_network("auto", None, tmp_path, resolve=offline)
    assert loaded.card.name == "shapes"
    assert not loaded.network.training
    assert loaded.fallback_reason == (
        "the weights of coco-r50-fpn could not be fetched: [Errno 111] Connection refused"
    )
    warning, hint = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.startswith("using the bundled model shapes instead of coco-r50-fpn: http://127.0.0.1:")
    assert hint == loaded.hint
    assert hint.startswith(
        "this demo model knows only drawn shapes; for photos: `RCNN_MODEL=coco-r50-fpn rcnn"
    )
    assert list(tmp_path.iterdir()) == []


def test_auto_falls_back_where_the_cache_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    loaded = load_network("auto", None, tmp_path / "file", resolve=offline)
    assert loaded.card.name == "shapes"
    assert loaded.fallback_reason == (
        "the weights of coco-r50-fpn could not be fetched: the cache folder cannot be used (File exists)"
    )


def test_unpublished_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no address is known for torchvision:Faster"):
        load_network("coco-r50-fpn", None, tmp_path, resolve=lambda _card: None)


def test_a_model_named_explicitly_never_falls_back(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="Connection refused"):
        load_network("coco-r50-fpn", None, tmp_path, resolve=offline)


UNTRAINED = [name for name, card in catalogue(None).items() if card.random_seed is not None]


def test_an_untrained_model_is_the_same_each_time_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = torch.get_rng_state()
    first, second = (load_network("untrained-r50-c4", None, tmp_path) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before), "loading must not disturb what is random elsewhere"
    pair = first.network.state_dict(), second.network.state_dict()
    assert all(torch.equal(pair[0][name], pair[1][name]) for name in pair[0])
    assert "untrained-r50-c4 is untrained" in caplog.text


def test_every_card_has_a_known_architecture() -> None:
    """Others are for cards that `rcnn import` and users write."""
    assert {card.architecture for card in catalogue(None).values()} < set(ARCHITECTURES)
    assert len(UNTRAINED) == 5


@pytest.mark.parametrize("hashed", [True, False])
def test_a_card_without_a_hash_is_loaded_with_a_warning_that_names_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, hashed: bool
) -> None:
    path = write(tmp_path)
    if not hashed:
        card = Path(path)
        card.write_text(re.sub(r"(?m)^sha256 = .*\n", "", card.read_text()))
    with caplog.at_level(logging.WARNING):
        load_network(path, None, tmp_path / "cache")
    digest = sha256_of(tmp_path / "mine.safetensors")
    expected = [] if hashed else [f'{path} has no sha256, .*add: sha256 = "{digest}"']
    assert len(caplog.messages) == len(expected)
    assert all(re.match(*pair) for pair in zip(expected, caplog.messages, strict=True))
