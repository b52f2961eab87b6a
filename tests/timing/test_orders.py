"""Orders in which contenders take turns: balanced, and other ones each time."""

from __future__ import annotations

from collections import Counter
from itertools import islice, pairwise

import pytest

from mnistbench.timing.orders import balanced


@pytest.mark.parametrize("count", range(1, 11))
def test_each_is_as_often_at_each_place_and_after_each_other(count: int) -> None:
    length = count * (1 + count % 2)
    for _ in range(3):
        orders = list(islice(balanced(count), length))
        assert all(sorted(order) == list(range(count)) for order in orders)
        places = Counter((place, who) for order in orders for place, who in enumerate(order))
        assert set(places.values()) == {length // count}
        after = Counter(pair for order in orders for pair in pairwise(order))
        assert len(after) == count * (count - 1)
        assert len(set(after.values())) <= 1


def test_orders_are_drawn_anew() -> None:
    assert len({tuple(map(tuple, islice(balanced(5), 3))) for _ in range(20)}) > 15
