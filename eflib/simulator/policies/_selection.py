"""A mixed-integer program: which jobs of fixed size can all be done by their deadlines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from eflib.errors import UsageError

OLD_WORTH = 1000.0  # newcomers that an old claim is worth: none is given up for them
GAP = 1e-6  # relative gap at which the solver stops; below one newcomer of any number


@dataclass(frozen=True)
class Claim:
    """What one job wants.

    Attributes:
        seconds: Time it has to run, above 0.
        num_gpus: GPUs it holds while it runs.
        within: Seconds from now in which it has to be done.
        is_old: Whether it was let in before.
    """

    seconds: float
    num_gpus: int
    within: float
    is_old: bool


def select(claims: Sequence[Claim], num_gpus: int) -> list[bool]:
    """Return which claims can be met together, as many newcomers as possible.

    Time is cut at each deadline. A claim may run for any time within each stretch before its
    deadline, not longer than the stretch; all together use no more GPU time in a stretch than there
    is. For sizes that are powers of two that is enough to place them: filled in falling size, with
    jobs taking turns, aligned blocks leave no gaps.

    Args:
        claims: Old ones and newcomers.
        num_gpus: Size of the cluster.

    Returns:
        One yes or no per claim. An old one that cannot be met any more is a no as well.

    Raises:
        UsageError: scipy is not installed.
    """
    possible = [index for index, c in enumerate(claims) if c.seconds <= c.within]
    if sum(claims[index].num_gpus for index in possible) <= num_gpus:
        chosen = set(possible)  # nobody has to wait for anybody
    else:
        yes = _solve([claims[index] for index in possible], num_gpus)
        chosen = {index for index, is_chosen in zip(possible, yes, strict=True) if is_chosen}
    return [index in chosen for index in range(len(claims))]


def _solve(claims: Sequence[Claim], num_gpus: int) -> list[bool]:
    """Solve the program for claims that could be met, each by itself."""
    optimize, sparse = _scipy()
    ends = sorted({claim.within for claim in claims})
    lengths = [end - start for start, end in zip([0.0, *ends[:-1]], ends, strict=True)]
    # Variables: yes or no per claim, then the part of each stretch that a claim runs for.
    cells = [
        (row, stretch)
        for row, claim in enumerate(claims)
        for stretch, end in enumerate(ends)
        if end <= claim.within
    ]
    size = len(claims) + len(cells)
    needs = sparse.lil_array((len(claims), size))
    space = sparse.lil_array((len(ends), size))
    needs.setdiag(-1.0)
    for column, (row, stretch) in enumerate(cells, start=len(claims)):
        needs[row, column] = lengths[stretch] / claims[row].seconds
        space[stretch, column] = claims[row].num_gpus / num_gpus
    worth = [-(OLD_WORTH if claim.is_old else 1.0) for claim in claims]
    found = optimize.milp(
        worth + [0.0] * len(cells),
        integrality=[1] * len(claims) + [0] * len(cells),
        bounds=optimize.Bounds(0.0, 1.0),
        constraints=[
            optimize.LinearConstraint(needs.tocsr(), lb=0.0),
            optimize.LinearConstraint(space.tocsr(), ub=1.0),
        ],
        options={"mip_rel_gap": GAP},
    )
    if found.x is None:
        raise RuntimeError(f"HiGHS found no solution, though all no is one: {found.message}")
    return [float(value) > 0.5 for value in found.x[: len(claims)]]


def _scipy() -> tuple[Any, Any]:
    """Return scipy's optimisers and sparse arrays, or say how to get them."""
    try:
        from scipy import optimize, sparse  # noqa: PLC0415 - optional: one baseline needs it
    except ImportError as error:
        raise UsageError(
            "the policy chronus needs scipy, which is not installed",
            hint="pip install 'eflib[simulator]'",
        ) from error
    return optimize, sparse
