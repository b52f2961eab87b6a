"""Orders in which contenders take turns."""

from __future__ import annotations

import secrets
from collections.abc import Iterator


def balanced(count: int) -> Iterator[list[int]]:
    """Yield orders of ``count`` contenders, at least 1, without end, drawn from the operating system's random numbers.

    In every ``count`` orders, or twice as many if ``count`` is odd, each contender is equally often at each place, and
    equally often right after each other one, which may leave it a warm cache or a hot core (Williams, "Experimental
    designs balanced for the estimation of residual effects of treatments", 1949).
    """
    random = secrets.SystemRandom()
    # 0, 1, n - 1, 2, n - 2, ...: each difference of neighbours occurs once, or of an odd count twice with its mirror.
    first = [(place + 1) // 2 if place % 2 else (count - place // 2) % count for place in range(count)]
    square = [[(start + shift) % count for start in first] for shift in range(count)]
    if count % 2:
        square += [row[::-1] for row in square]
    while True:
        names = random.sample(range(count), count)
        for row in random.sample(square, len(square)):
            yield [names[place] for place in row]
