"""An unpickler that imports and calls nothing of a pickle's: it takes tensors, arrays and plain values.

Every class and function that the pickle names becomes a placeholder, but for the few that say how a tensor
or an array is stored: those become descriptions of it.
"""

import pickle
from collections.abc import Callable
from typing import IO, Any, NoReturn

import torch

from models.checkpoints.placeholders import Placeholder, Qualified, StateDict, placeholder
from models.checkpoints.tensors import STORAGES, ArrayRef, DtypeRef, StorageRef, TensorRef

UNTYPED = "torch.storage.UntypedStorage"
MAX_DTYPE_NAME = 20


class _Call:
    """Stands for a function that stores a tensor or array; a pickle cannot change it."""

    __slots__ = ("_make",)
    _make: Callable[..., object]

    def __init__(self, make: Callable[..., object]) -> None:
        object.__setattr__(self, "_make", make)

    def __call__(self, *arguments: object) -> object:
        return self._make(*arguments)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("a pickle may not change how tensors are read")

    def __setstate__(self, state: object) -> NoReturn:
        raise AttributeError("a pickle may not change how tensors are read")


def _tensor(storage: object, offset: object, size: object, stride: object, *_rest: object) -> TensorRef:
    return TensorRef(storage, offset, size, stride)


def _typed_tensor(
    storage: object, offset: object, size: object, stride: object, *rest: object
) -> TensorRef | None:
    """A tensor on an untyped storage: its dtype is the third of the rest."""
    dtype = _dtype(rest[2]) if len(rest) > 2 else None
    if not isinstance(storage, StorageRef) or dtype is None:
        return None
    return TensorRef(StorageRef(storage.key, dtype, storage.count), offset, size, stride)


def _dtype(value: object) -> torch.dtype | None:
    """The dtype that a placeholder class "torch.float32" names."""
    name = getattr(value, "qualified", "").removeprefix("torch.")
    found = getattr(torch, name, None) if len(name) < MAX_DTYPE_NAME else None
    return found if isinstance(found, torch.dtype) else None


def _first(value: object, *_rest: object) -> object:
    """A Parameter is its tensor."""
    return value


def _typed(make: object, _type: object, arguments: object, *_rest: object) -> object:
    """A tensor with attributes, or of a subclass: the tensor alone."""
    if isinstance(make, _Call) and isinstance(arguments, tuple):
        return make(*arguments)
    return None


def _empty_array(*_arguments: object) -> ArrayRef:
    return ArrayRef()


def _array_of(content: object, dtype: object, shape: object, order: object = "C", *_rest: object) -> ArrayRef:
    return ArrayRef(shape, dtype, order, content)


def _encoded(text: object, encoding: object = "utf-8", *_rest: object) -> bytes:
    """Bytes as Python 2 and old protocols write them."""
    return text.encode("latin1") if isinstance(text, str) and encoding in ("latin1", "latin-1") else b""


def _size(sides: object = (), *_rest: object) -> object:
    return sides


_CALLS: dict[Qualified, Callable[..., object]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _typed_tensor,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch._tensor._rebuild_from_type_v2": _typed,
    "torch.Size": _size,
    "_codecs.encode": _encoded,
    "numpy.dtype": DtypeRef,
    "numpy.core.multiarray._reconstruct": _empty_array,
    "numpy._core.multiarray._reconstruct": _empty_array,
    "numpy.core.numeric._frombuffer": _array_of,
    "numpy._core.numeric._frombuffer": _array_of,
}
_DICTS = ("collections.OrderedDict", "collections.defaultdict")


class InertUnpickler(pickle.Unpickler):
    """Reads one pickle; `foreign` holds what became a placeholder, by name."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file, encoding="latin1")
        self.foreign: dict[Qualified, Any] = {}
        self.widths: dict[str, int] = {}  # bytes of an element, by the storage's key

    def find_class(self, module: str, name: str) -> Any:
        """What stands for the class or function; imports nothing."""
        qualified = f"{module}.{name}"
        if qualified in _DICTS:
            return _DictOf
        if (make := _CALLS.get(qualified)) is not None:
            return _Call(make)
        return self.foreign.setdefault(qualified, placeholder(qualified))

    def persistent_load(self, pid: Any) -> StorageRef:
        """The storage that a torch pickle refers to."""
        kind, storage_type, key, _location, count = tuple(pid)[:5]
        qualified = getattr(storage_type, "qualified", "")
        dtype = torch.uint8 if qualified == UNTYPED else STORAGES.get(qualified.removeprefix("torch."))
        if kind not in ("storage", b"storage") or dtype is None or not isinstance(count, int):
            raise pickle.UnpicklingError(
                f"it refers to a {qualified or kind!r}, which is no storage of numbers"
            )
        self.widths[str(key)] = dtype.itemsize
        return StorageRef(str(key), dtype, count)


class _DictOf(StateDict):
    """An OrderedDict or defaultdict: takes pairs; the factory of a defaultdict is dropped."""

    __slots__ = ()

    def __init__(self, pairs: object = (), *_rest: object) -> None:
        super().__init__(pairs if isinstance(pairs, list | tuple | dict) else ())


def is_foreign(value: object) -> bool:
    """Whether it is a placeholder or a class of placeholders."""
    return isinstance(value, Placeholder) or (isinstance(value, type) and issubclass(value, Placeholder))
