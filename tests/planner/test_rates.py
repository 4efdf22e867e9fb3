"""What a link reached, read off counts."""

from swapmem.planner.rates import reached

MIB = 1 << 20


def counts(
    out_bytes: int, in_bytes: int, out_seconds: float, in_seconds: float
) -> dict[str, float]:
    return {
        "swap_out_bytes": out_bytes,
        "swap_in_bytes": in_bytes,
        "swap_out_busy_seconds": out_seconds,
        "swap_in_busy_seconds": in_seconds,
    }


def test_rates_are_what_was_copied_while_copies_ran() -> None:
    found = reached(counts(MIB, MIB, 1.0, 1.0), counts(33 * MIB, 17 * MIB, 3.0, 3.0))
    assert found is not None
    assert found.out_bytes_per_second == found.duplex_out_bytes_per_second == 16 * MIB
    assert found.in_bytes_per_second == found.duplex_in_bytes_per_second == 8 * MIB


def test_where_too_little_was_copied_one_way_no_rate_is_told() -> None:
    assert reached(counts(0, 0, 0, 0), counts(64 * MIB, MIB, 1.0, 1.0)) is None
    assert reached(counts(0, 0, 0, 0), counts(MIB, 64 * MIB, 1.0, 1.0)) is None
