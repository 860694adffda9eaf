"""Hostile pickles: nothing in them is imported, called or changed, and no number in them is believed."""

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.checkpoints.errors import CheckpointError
from models.checkpoints.placeholders import Placeholder
from models.checkpoints.states import read_state

GLOBAL_CALL = b"c%s\n%s\n(S'%s'\ntR."  # protocol 0: import, mark, argument, call


class Reduced:
    """Pickles as a call of `function` with `arguments`, and then sets a state."""

    def __init__(self, function: Callable[..., Any], *arguments: Any, state: Any = None) -> None:
        self.reduced = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.reduced


def test_a_call_in_a_pickle_is_not_made(tmp_path: Path) -> None:
    created = tmp_path / "created"
    hostile = {"model": {"a": torch.ones(2)}, "args": Reduced(os.mkdir, str(created))}
    torch.save(hostile, tmp_path / "w.pth")
    assert list(read_state(tmp_path / "w.pth")) == ["a"]
    assert not created.exists()
    pickle.loads(pickle.dumps(hostile["args"]))  # noqa: S301 - shows that the pickle was armed
    assert created.exists()


def test_a_module_that_a_pickle_names_is_not_imported(tmp_path: Path) -> None:
    (tmp_path / "w.pkl").write_bytes(GLOBAL_CALL % (b"no_such_module", b"function", b"argument"))
    with pytest.raises(CheckpointError, match=r"a pickled object \(no_such_module\.function\)"):
        read_state(tmp_path / "w.pkl")


BUILDS = {
    "a placeholder's class": b"ctorch.nn\nLinear\n(N(dS'items'\nI1\nstb.",
    "how tensors are read": b"ctorch._utils\n_rebuild_tensor_v2\n(N(dS'_make'\nI1\nstb.",
    "a dictionary's class": b"ccollections\nOrderedDict\n(N(dS'get'\nI1\nstb.",
}


@pytest.mark.parametrize("target", BUILDS)
def test_a_pickle_cannot_change_the_reader(tmp_path: Path, target: str) -> None:
    (tmp_path / "w.pkl").write_bytes(BUILDS[target])
    with pytest.raises(CheckpointError):
        read_state(tmp_path / "w.pkl")
    assert not hasattr(Placeholder, "get")
    torch.save({"a": torch.ones(2)}, tmp_path / "good.pth")
    assert torch.equal(read_state(tmp_path / "good.pth")["a"], torch.ones(2))


LIES: dict[str, tuple[int, tuple[int, ...], tuple[int, ...]]] = {
    "more elements": (0, (5,), (1,)),
    "an expanded tensor": (0, (1 << 40, 4), (0, 1)),
    "an offset beyond": (3, (2,), (1,)),
    "a negative stride": (0, (2,), (-1,)),
    "a stride for no side": (0, (2,), (1, 1)),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_tensor_larger_than_its_data_is_refused(tmp_path: Path, lie: str) -> None:
    storage = torch.ones(4).untyped_storage()
    typed = torch.storage.TypedStorage(wrap_storage=storage, dtype=torch.float32, _internal=True)
    stretched = Reduced(torch._utils._rebuild_tensor_v2, typed, *LIES[lie], False, {})
    torch.save({"a": stretched}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="a tensor in it"):
        read_state(tmp_path / "w.pth")


def test_a_compressed_archive_is_refused(tmp_path: Path) -> None:
    """Some kilobytes of it could be gigabytes of memory."""
    with zipfile.ZipFile(tmp_path / "w.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"a": [0.0] * 1000}))
    with pytest.raises(CheckpointError, match="a compressed zip archive"):
        read_state(tmp_path / "w.pth")


def test_an_array_of_objects_is_refused(tmp_path: Path) -> None:
    (tmp_path / "w.pkl").write_bytes(pickle.dumps({"a": np.array([{}], dtype=object)}))
    with pytest.raises(CheckpointError, match="an array of object"):
        read_state(tmp_path / "w.pkl")
