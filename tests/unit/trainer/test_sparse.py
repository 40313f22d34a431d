"""Sparse gradients at 1, 2 and 3 ranks: the parameters of one process, and of plain PyTorch."""

import pytest
import torch

from tests.unit.trainer import sparse_cases
from tests.unit.trainer.ranks import run_ranks
from tests.unit.trainer.sparse_cases import CASES, MODELS, WORLD_SIZES

pytestmark = pytest.mark.processes

TOLERANCES = {"sum and count": 1e-5}
"""Counts are exchanged in the precision of the first parameters' gradients."""


def assert_close(name, parameters, others):
    bound = TOLERANCES.get(name, 1e-10)
    for one, other in zip(parameters, others, strict=True):
        torch.testing.assert_close(one, other, rtol=bound, atol=bound)


@pytest.fixture(scope="module")
def worlds(tmp_path_factory):
    """Run all cases once; returns what each rank of each world saw."""
    folder = tmp_path_factory.mktemp("worlds")
    run_ranks(sparse_cases.run_rank, max(WORLD_SIZES), folder)
    return {
        world: [torch.load(folder / f"{world}-{rank}.pt") for rank in range(world)]
        for world in WORLD_SIZES
    }


@pytest.mark.parametrize("case", CASES, ids=", ".join)
def test_all_world_sizes_end_with_the_parameters_of_one_process(worlds, case):
    alone = worlds[1][0][case]
    for world, ranks in worlds.items():
        for seen in ranks:
            assert_close(case[0], seen[case], alone)
            if case[1] == "deterministic":
                assert all(map(torch.equal, seen[case], alone)), world


@pytest.mark.parametrize("name", MODELS)
def test_one_process_ends_with_the_parameters_of_plain_pytorch(worlds, name):
    assert_close(name, worlds[1][0][name, "default"], sparse_cases.train_plainly(name))
