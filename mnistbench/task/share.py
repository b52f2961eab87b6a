"""The share of a workload's training images that one rank of several holds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Share:
    """Consecutive training images, as many as those of the other ranks, or one more or less.

    Places are those among all training images, so that the order of an epoch, dropout and distortions are the same for
    every number of ranks. Of a mini-batch a rank computes the images that it holds, which may be none.

    Attributes:
        rank: Number of the rank, from 0.
        ranks: Number of ranks.
        images: Number of training images of all ranks.
    """

    rank: int
    ranks: int
    images: int

    @property
    def first(self) -> int:
        """Place of the first image."""
        return self.images * self.rank // self.ranks

    @property
    def last(self) -> int:
        """Place after that of the last image."""
        return self.images * (self.rank + 1) // self.ranks

    @property
    def held(self) -> int:
        """Number of images."""
        return self.last - self.first
