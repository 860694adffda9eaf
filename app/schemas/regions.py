"""The option `roi`: regions as texts of numbers, or in JSON as lists of numbers."""

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from app.schemas.limits import MAX_REGION_NUMBERS, MAX_REGIONS

_SHAPE = "must be x1,y1,x2,y2 of two corners, or x,y of three and more points, each number 0 or more"


def _listed(value: object) -> object:
    """One region as a list of it: a text, or a list of numbers."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list | tuple) and value and all(isinstance(one, int | float) for one in value):
        return [value]
    return value


def _numbers(value: object) -> object:
    """The numbers of a text as a list."""
    return value.split(",") if isinstance(value, str) and len(value) <= 32 * MAX_REGION_NUMBERS else value


def _check_region(numbers: tuple[float, ...]) -> tuple[float, ...]:
    if len(numbers) < 4 or len(numbers) % 2:
        raise PydanticCustomError("roi", _SHAPE)
    if len(numbers) == 4 and (numbers[0] >= numbers[2] or numbers[1] >= numbers[3]):
        raise PydanticCustomError("roi", "x1 must be less than x2, and y1 less than y2")
    return numbers


def _check_count(regions: list[tuple[float, ...]]) -> list[tuple[float, ...]]:
    if sum(map(len, regions)) > MAX_REGION_NUMBERS:
        text = "the regions together should have at most {most} numbers"
        raise PydanticCustomError("roi", text, {"most": MAX_REGION_NUMBERS})
    return regions


_Number = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Region = Annotated[tuple[_Number, ...], BeforeValidator(_numbers), AfterValidator(_check_region)]
_SCHEMA: dict[str, Any] = {
    "type": "array",
    "items": {"type": "string", "pattern": r"^[0-9.]+(,[0-9.]+){3,}$"},
    "maxItems": MAX_REGIONS,
    "examples": [["0,0,320,240", "400,0,640,0,640,240"]],
}
RegionList = Annotated[
    list[Region], BeforeValidator(_listed), AfterValidator(_check_count), WithJsonSchema(_SCHEMA)
]
