"""SQL of sums that have no rounding, and so no order.

Sums of floats depend on the order in which an engine adds them, which differs from run to run. Here they do not: every
term is split into two parts on grids so coarse that adding them up is exact, and what is exact has no order. Demmel and
Nguyen (2013), "Fast reproducible floating-point summation", has the idea.
"""

from __future__ import annotations

LARGEST = "1e150"  # its square is still a number
SECOND_GRID = 2.0**-51
WHOLE_BELOW = 2.0**53  # sums of integers below it have no rounding
WIDEST = 2.0**100  # integers below it, and their differences, are decimals of 38 digits


def literal_sql(number: float) -> str:
    """A double in SQL: without an exponent DuckDB would read a decimal."""
    text = repr(float(number))
    return text if "e" in text else f"{text}e0"


def rounded_sql(term: str, grid: str) -> str:
    """A term that is smaller than the grid, rounded to a multiple of the grid's last digit."""
    return f"({term} + {grid} - {grid})"


def split_sums(term: str, grid: str, fine_grid: str) -> tuple[str, str]:
    """Sums of the two parts of a term that is at most ``grid / 4n`` in each of n rows; ``fine_grid`` is
    ``grid * n * SECOND_GRID``.

    Adding and taking away the grid g rounds to a multiple of its last digit, at least ``g * 2^-54``; n of those stay
    below 2^53 multiples, so their sum has no rounding. The remainder, at most ``g * 2^-53``, is treated so again.
    """
    head = rounded_sql(term, grid)
    return f"SUM({head})", f"SUM({rounded_sql(f'({term} - {head})', fine_grid)})"


def literal_sums(term: str, reach: float, n: int, *, whole: bool) -> tuple[str, ...]:
    """Exact sums of a term of at most ``reach`` in each of n rows: one if it is ``whole`` and small enough, else two;
    none if it is always zero.

    Examples
    --------
    >>> literal_sums("x", 3.0, 1_000, whole=True)
    ('SUM(x)',)
    """
    if reach == 0:
        return ()
    if whole and reach * n < WHOLE_BELOW:
        return (f"SUM({term})",)
    grid = 4.0 * n * reach
    return split_sums(term, literal_sql(grid), literal_sql(grid * n * SECOND_GRID))
