"""
From the scores of two lists to one order.

Cosines and BM25 have nothing in common but that more is better. So each is measured in standard
deviations from the mean of everything the asker could have been given, and the two are averaged: a
list in which one item stands out counts for more than one in which nothing does. Ranks alone
(reciprocal rank fusion) would throw that away. `bench.search` has the figures; clipping the scores,
or weighing the lists by anything but a half, made some set worse.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float32]
"""One score for each slot."""

Mask = NDArray[np.bool_]
"""Which slots are meant."""

PRECISION: Final = 4
"""Decimals of a fused score. What is below is rounding, and must not order what is equal."""

NO_SPREAD: Final = 1e-6
"""A standard deviation that is rounding."""


def standardise(scores: Scores, among: Mask) -> Scores:
    """Each score in standard deviations from the mean of those *among*; zero where all agree."""
    population = scores[among]
    spread = population.std()
    if spread < NO_SPREAD:
        return np.zeros_like(scores)
    return (scores - population.mean()) / spread


def fuse(lists: Sequence[Scores], among: Mask) -> Scores:
    """The mean of the standardised lists."""
    total = np.zeros(len(among), np.float32)
    for scores in lists:
        total += standardise(scores, among)
    return total / np.float32(len(lists))


def best(scores: Scores, wanted: Mask, limit: int, order: Callable[[int], Any]) -> list[int]:
    """The slots of the *limit* best scores among those *wanted*; equal ones by *order*."""
    slots = np.flatnonzero(wanted)
    rounded = scores[slots].round(PRECISION)
    if limit < slots.size:
        least = np.partition(rounded, -limit)[-limit]
        slots, rounded = slots[rounded >= least], rounded[rounded >= least]
    ranked = sorted(
        zip(rounded.tolist(), slots.tolist(), strict=True), key=lambda one: (-one[0], order(one[1]))
    )
    return [slot for _, slot in ranked[:limit]]
