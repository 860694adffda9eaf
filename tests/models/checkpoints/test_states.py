"""Checkpoints as people have them: the state is found whatever wraps it; what is none is named."""

import argparse
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from models.checkpoints.errors import CheckpointError
from models.checkpoints.states import read_state, source_of

NAMES = ("backbone.body.conv1.weight", "rpn.head.cls_logits.bias", "roi_heads.box_predictor.cls_score.bias")
HTML = b"<!DOCTYPE html><html><body>Google Drive - Virus scan warning"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 76000000\n"


def state() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(5)
    return {name: torch.randn(2, 3, generator=generator) for name in NAMES}


def prefixed(prefix: str) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state().items()}


WRAPPED: dict[str, Callable[[], Any]] = {
    "torchvision's references": lambda: {
        "model": state(),
        "optimizer": {"state": {0: {"momentum_buffer": torch.ones(2)}}, "param_groups": [{"lr": 0.02}]},
        "args": argparse.Namespace(lr=0.02, data_path=Path("coco")),
        "epoch": 25,
    },
    "PyTorch's tutorial": lambda: {"epoch": 3, "model_state_dict": state(), "optimizer_state_dict": {}},
    "an average alone": lambda: {"model_ema": {"n_averaged": torch.tensor(3), **prefixed("module.")}},
    "DataParallel": lambda: prefixed("module."),
    "Lightning": lambda: {
        "state_dict": {**prefixed("model."), "val_map.total": torch.ones(1)},
        "hyper_parameters": {"lr": 1e-3, "data": Path("data")},
        "pytorch-lightning_version": "2.4.0",
    },
    "a network in a network": lambda: {"state_dict": prefixed("net.model.")},
    "torch.compile": lambda: prefixed("_orig_mod."),
    "a compiled backbone": lambda: {
        name.replace("body.", "_orig_mod.body."): t for name, t in state().items()
    },
    "an average beside the network": lambda: {**prefixed("model."), **prefixed("averaged.module.")},
    "parameters": lambda: {name: nn.Parameter(tensor) for name, tensor in state().items()},
    "arrays": lambda: {"model": {name: tensor.numpy() for name, tensor in state().items()}},
    "an ordered dict": lambda: OrderedDict(state()),
    "a key of one's own": lambda: {"student": state(), "epoch": 3, "optimizer": {"state": {}}},
    "DeepSpeed": lambda: {"module": prefixed("module."), "dp_world_size": 2},
    "a checkpoint in a checkpoint": lambda: {"checkpoint": {"model": state()}, "config": {"lr": 0.1}},
    "with a scalar of numpy": lambda: {"model": state(), "best": np.float64(0.5)},
}


@pytest.mark.parametrize("archive", [True, False], ids=["zip", "before PyTorch 1.6"])
@pytest.mark.parametrize("kind", WRAPPED)
def test_the_state_is_found(tmp_path: Path, kind: str, archive: bool) -> None:
    path = tmp_path / "checkpoint.pth"
    torch.save(WRAPPED[kind](), path, _use_new_zipfile_serialization=archive)
    assert_state(read_state(path))


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_pickle_of_arrays_is_read(tmp_path: Path, protocol: int) -> None:
    content = {"model": {name: tensor.numpy() for name, tensor in state().items()}, "__author__": "Model Zoo"}
    (tmp_path / "model_final.pkl").write_bytes(pickle.dumps(content, protocol))
    assert_state(read_state(tmp_path / "model_final.pkl"))


def test_a_file_is_read_by_its_content_whatever_its_suffix(tmp_path: Path) -> None:
    save_file(prefixed("model."), tmp_path / "weights.pth")
    torch.save(state(), tmp_path / "weights.safetensors")
    assert_state(read_state(tmp_path / "weights.pth"))
    assert_state(read_state(tmp_path / "weights.safetensors"))


def assert_state(found: dict[str, Tensor]) -> None:
    assert found.keys() == set(NAMES)
    for name, tensor in state().items():
        assert torch.equal(found[name], tensor)
    assert source_of(found) == "torchvision"


def test_views_of_one_storage_are_read(tmp_path: Path) -> None:
    both = torch.arange(12.0)
    views = {"a": both[2:8].view(2, 3).t(), "b": both[6:]}
    torch.save(views, tmp_path / "views.pth")
    found = read_state(tmp_path / "views.pth")
    assert torch.equal(found["a"], views["a"])
    assert torch.equal(found["b"], views["b"])


def scripted(path: Path) -> None:
    class Doubled(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * 2

    torch.jit.trace(Doubled(), torch.ones(1)).save(str(path))


REFUSED: dict[str, tuple[Any, str]] = {
    "a pickled network": (nn.Linear(2, 2), r"a pickled object \(torch\.nn\.modules\.linear\.Linear\)"),
    "one under model": (
        {"model": nn.Linear(2, 2)},
        r"torch\.nn\.modules\.linear\.Linear.*save only the state",
    ),
    "an optimizer": ({"optimizer": {"state": {}}, "epoch": 3}, "the state of an optimizer without"),
    "Mask R-CNN": ({**state(), "roi_heads.mask_head.0.weight": torch.ones(1)}, "weights of a Mask R-CNN"),
    "Keypoint R-CNN": ({**state(), "roi_heads.keypoint_head.0.weight": torch.ones(1)}, "of a Keypoint R-CNN"),
    "an HTML page": (HTML, "an HTML page and not weights.*download the file itself"),
    "a Git LFS pointer": (POINTER, "a Git LFS pointer.*git lfs pull"),
    "a gzip archive": (b"\x1f\x8b\x08\x00", "a tar or gzip archive; unpack it"),
    "an ONNX model": (
        b"\x08\x07\x12\x07pytorch\x1a\x05",
        "an ONNX model or another protobuf file; only PyTorch",
    ),
    "an image": (b"\x89PNG\r\n\x1a\n\0", "an image; only PyTorch checkpoints"),
    "an answer of a service": (
        b'{"error": "not found"}',
        'a text and not weights.*begins \'{"error": "not found"}\'',
    ),
    "a configuration": (b"MODEL:\n  WEIGHTS: x\n", "a text and not weights.*or a configuration"),
    "networks under two keys": ({"teacher": state(), "student": state()}, "contains 'teacher' of type dict"),
    "an SSD": ({"head.classification_head.conv": torch.ones(1)}, "weights of a RetinaNet, an FCOS or an SSD"),
    "an empty file": (b"", "it is empty; get the file again"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_state_is_named_with_what_to_do(tmp_path: Path, kind: str) -> None:
    content, message = REFUSED[kind]
    path = tmp_path / "checkpoint.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(CheckpointError, match=message):
        read_state(path)


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_torchscript_is_named(tmp_path: Path) -> None:
    scripted(tmp_path / "scripted.pt")
    with pytest.raises(CheckpointError, match=r"a TorchScript program.*torch\.jit\.load"):
        read_state(tmp_path / "scripted.pt")


def test_a_program_of_export_is_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "program.pt2", "w") as archive:
        archive.writestr("program/archive_format", "pt2")
    with pytest.raises(CheckpointError, match=r"a program of torch\.export.*torch\.export\.load"):
        read_state(tmp_path / "program.pt2")


def test_a_tensor_of_plain_pickle_says_how_to_write_it(tmp_path: Path) -> None:
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(state()))
    with pytest.raises(CheckpointError, match=r"pickle\.dump.*write it with torch\.save"):
        read_state(tmp_path / "w.pkl")


def test_safetensors_are_known_whatever_the_length_of_their_header(tmp_path: Path) -> None:
    first_bytes = set()
    for length in range(40):
        save_file(state(), tmp_path / "w.safetensors", metadata={"note": "x" * 8 * length})
        assert_state(read_state(tmp_path / "w.safetensors"))
        first_bytes.add((tmp_path / "w.safetensors").read_bytes()[0])
    assert 8 in first_bytes  # as protobuf's
