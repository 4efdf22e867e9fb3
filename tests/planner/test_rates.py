"""What a link reached, read off counts."""

from swapmem.planner.rates import reached
from swapmem.planner.trace import Rates

MIB = 1 << 20


def counts(
    out: tuple[int, float] = (0, 0.0),
    back: tuple[int, float] = (0, 0.0),
    both: tuple[int, int, float] = (0, 0, 0.0),
) -> dict[str, float]:
    """Statistics after MiB and seconds each way; of these MiB each way and seconds in both."""
    return {
        "swap_out_bytes": out[0] * MIB,
        "swap_out_busy_seconds": out[1],
        "swap_in_bytes": back[0] * MIB,
        "swap_in_busy_seconds": back[1],
        "swap_out_duplex_bytes": both[0] * MIB,
        "swap_in_duplex_bytes": both[1] * MIB,
        "duplex_busy_seconds": both[2],
    }


def test_rates_are_what_was_copied_while_copies_ran() -> None:
    before = counts((1, 1.0), (1, 1.0))
    found = reached(before, counts((33, 3.0), (17, 3.0)))
    assert found == Rates(16 * MIB, 8 * MIB, 16 * MIB, 8 * MIB)


def test_the_rates_of_both_ways_at_once_are_told_from_those_alone() -> None:
    before = counts((4, 1.0), (4, 1.0), (2, 2, 0.5))
    found = reached(before, counts((34, 3.0), (26, 3.0), (12, 10, 1.5)))
    # Out 20 MiB alone in 1 s, 10 in both; in 14 and 8.
    assert found == Rates(20 * MIB, 14 * MIB, 10 * MIB, 8 * MIB)


def test_where_too_little_was_copied_one_of_the_ways_one_rate_stands_for_both() -> None:
    found = reached(counts(), counts((34, 2.0), (32, 2.0), (3, 30, 1.0)))
    assert found == Rates(17 * MIB, 16 * MIB, 17 * MIB, 16 * MIB)


def test_where_too_little_was_copied_one_way_no_rate_is_told() -> None:
    assert reached(counts(), counts((64, 1.0), (1, 1.0))) is None
    assert reached(counts(), counts((1, 1.0), (64, 1.0))) is None
