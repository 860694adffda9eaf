"""What a pickle's classes and functions become: inert objects that keep their arguments and do nothing.

Their classes cannot be changed by a pickle (`BUILD` on a class or function would set its attributes).
"""

from typing import Any, ClassVar, NoReturn, cast

Qualified = str  # "module.name"


class Sealed(type):
    """Metaclass of classes whose attributes a pickle cannot set."""

    def __setattr__(cls, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{cls.__name__} cannot be changed")


class Placeholder(metaclass=Sealed):
    """An object of a foreign class: what the pickle gave it, unused."""

    __slots__ = ("arguments", "items", "state")
    qualified: ClassVar[Qualified] = "unknown"
    arguments: tuple[object, ...]
    items: dict[object, object]
    state: object

    def __new__(cls, *arguments: object, **_keywords: object) -> "Placeholder":
        made = object.__new__(cls)
        made.arguments, made.items, made.state = arguments, {}, None
        return made

    def __init__(self, *arguments: object, **keywords: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        self.state = state

    def __setitem__(self, key: object, value: object) -> None:
        self.items[key] = value

    def append(self, value: object) -> None:
        """The items of a list's or set's subclass are dropped."""

    def extend(self, values: object) -> None:
        """As `append`."""

    add = append


class StateDict(dict[Any, Any], metaclass=Sealed):
    """An OrderedDict of the pickle; its attributes, such as `_metadata`, are dropped."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        pass


def placeholder(qualified: Qualified) -> type[Placeholder]:
    """A new class that stands for the foreign class or function of that name."""
    members: dict[str, Any] = {"__slots__": (), "qualified": qualified}
    return cast(type[Placeholder], Sealed("Placeholder", (Placeholder,), members))


def fields_of(value: object) -> dict[str, Any]:
    """The named values of a mapping or of a placeholder, as of an argparse.Namespace; else none."""
    if isinstance(value, Placeholder):
        state = value.state if isinstance(value.state, dict) else {}
        value = {**state, **value.items}
    if not isinstance(value, dict):
        return {}
    return {key: item for key, item in value.items() if isinstance(key, str)}
