"""models/pipeline/warm_up.py: which batch is worth its memory."""

from collections.abc import Callable

import pytest

from models.pipeline.warm_up import useful_batch


def device(seconds: float, fixed: float, tried: list[int], room: int = 1000) -> Callable[[int], float]:
    """Of one that takes `seconds` an image, `fixed` times that a batch more, and has room for so many."""

    def seconds_per_image(size: int) -> float:
        tried.append(size)
        if size > room:
            raise MemoryError
        return seconds * (1 + fixed / size)

    return seconds_per_image


@pytest.mark.parametrize(
    ("fixed", "useful", "tried"),
    [
        (0.0, 1, [1, 2]),  # nothing to save
        (0.2, 1, [1, 2]),  # 8 %
        (0.6, 4, [1, 2, 4, 8]),  # 19 %, 12 %, 6.5 %
        (1.01, 8, [1, 2, 4, 8, 16]),  # 25 %, 17 %, 10.1 %, 5.6 %
        (10.0, 64, [1, 2, 4, 8, 16, 32, 64, 128]),
    ],
)
def test_a_slow_batch_must_save_a_tenth(fixed: float, useful: int, tried: list[int]) -> None:
    seen: list[int] = []
    assert useful_batch(device(0.2 / (1 + fixed), fixed, seen), 1024) == useful
    assert seen == tried


@pytest.mark.parametrize(
    ("seconds", "useful", "tried"),
    [
        (0.016, 4, [1, 2, 4]),  # one of 8 would take 128 ms and owe a tenth: it is not tried for 1 %
        (0.010, 8, [1, 2, 4, 8]),
        (0.026, 2, [1, 2]),
        (0.060, 1, [1]),
    ],
)
def test_a_short_batch_need_not_save_time(seconds: float, useful: int, tried: list[int]) -> None:
    seen: list[int] = []
    assert useful_batch(device(seconds, 0.02, seen), 1024) == useful
    assert seen[: len(tried)] == tried


@pytest.mark.parametrize(("slower", "useful"), [(1.18, 4), (1.25, 1)])
def test_a_short_batch_may_be_slower_by_the_noise_only(slower: float, useful: int) -> None:
    assert useful_batch(lambda size: 0.001 * slower ** (size - 1).bit_length(), 4) == useful


def test_for_a_slow_image_no_larger_batch_is_tried() -> None:
    seen: list[int] = []
    assert useful_batch(device(0.02, 12, seen), 64) == 1
    assert seen == [1]


def test_cap_memory_and_time_limit_the_batch() -> None:
    seen: list[int] = []
    assert useful_batch(device(0.02, 10, seen), 6) == 4
    assert useful_batch(device(0.02, 10, seen), 1) == 1
    assert useful_batch(device(0.02, 10, seen, room=2), 64) == 2
    seen.clear()
    assert useful_batch(device(0.02, 10, seen), 64, lambda: len(seen) < 3) == 4
