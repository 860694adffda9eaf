"""models/batch_size.py: which batch is worth its memory."""

import pytest

from models.batch_size import owed, useful_batch


def device(fixed: float, tried: list[int], room: int = 1000) -> object:
    """Seconds per image of one that takes `fixed` seconds a batch and 1 an image, with room for so many."""

    def seconds_per_image(size: int) -> float:
        tried.append(size)
        if size > room:
            raise MemoryError
        return 1 + fixed / size

    return seconds_per_image


@pytest.mark.parametrize(
    ("fixed", "useful", "tried"),
    [
        (0.0, 1, [1, 2]),  # nothing to save
        (0.03, 1, [1, 2]),  # 1.5 %
        (0.06, 2, [1, 2, 4]),  # 2.8 %, then 1.5
        (0.25, 4, [1, 2, 4]),  # 10 %, 5.6 %: one of 8 owes 10 % and is not tried
        (0.6, 4, [1, 2, 4, 8]),  # 19 %, 12 %, 6.5 %
        (1.01, 8, [1, 2, 4, 8, 16]),  # 25 %, 17 %, 10.1 %, 5.6 %
        (10.0, 64, [1, 2, 4, 8, 16, 32, 64, 128]),
    ],
)
def test_small_batches_may_pay_little_large_ones_must_pay_much(
    fixed: float, useful: int, tried: list[int]
) -> None:
    seen: list[int] = []
    assert useful_batch(device(fixed, seen), 1024) == useful
    assert seen == tried


def test_the_cap_the_memory_and_the_time_end_it() -> None:
    seen: list[int] = []
    assert useful_batch(device(10, seen), 6) == 4
    assert useful_batch(device(10, seen), 1) == 1
    assert useful_batch(device(10, seen, room=2), 64) == 2
    seen.clear()
    assert useful_batch(device(10, seen), 64, lambda: len(seen) < 3) == 4


def test_what_a_batch_owes() -> None:
    assert [owed(size) for size in (2, 4, 8, 16, 32)] == [0.02, 0.02, 0.1, 0.1, 0.1]
