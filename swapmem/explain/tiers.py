"""How what is swapped out lies in the tiers of the store."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from swapmem.explain.timeline import Tier


def stored_tiers(
    points: Sequence[tuple[float, int]], tiers: Sequence[Mapping[str, Any]]
) -> list[Tier]:
    """Splits what is swapped out over the tiers of the store.

    The nearest tier is taken to be filled before the next one is used, as the tiered store does
    wherever it can.

    Args:
        points: (seconds, bytes swapped out).
        tiers: with "name" and "budget_bytes", the nearest first, as in `Manager.stats`; empty
            where nothing is known of the store.

    Returns:
        A tier each; one called "store" where there is nothing to split over.
    """
    if not tiers:
        return [Tier("store", tuple(points), None)]
    split = []
    below = 0
    for number, tier in enumerate(tiers):
        limit: int | None = tier.get("budget_bytes")
        most = sys.maxsize if limit is None or number == len(tiers) - 1 else limit
        part = tuple((time, min(max(size - below, 0), most)) for time, size in points)
        split.append(Tier(str(tier["name"]), part, limit))
        below += most
    return split
