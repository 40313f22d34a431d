"""Deterministic mode over gloo: 1, 2, 3 and 4 ranks end with the same bits."""

import pytest
import torch

from tests.unit.trainer import shard_cases
from tests.unit.trainer.ranks import run_ranks
from tests.unit.trainer.shard_cases import MODELS, WORLD_SIZES

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def worlds(tmp_path_factory):
    """Run all cases once; returns what each rank of each world saw."""
    folder = tmp_path_factory.mktemp("worlds")
    run_ranks(shard_cases.run_rank, max(WORLD_SIZES), folder)
    return {
        world: [torch.load(folder / f"{world}-{rank}.pt") for rank in range(world)]
        for world in WORLD_SIZES
    }


def bits(tensor):
    """Return a tensor's bytes: -0.0 is not 0.0 here."""
    return tensor.contiguous().reshape(-1).view(torch.uint8).tolist()


@pytest.mark.parametrize("case", MODELS)
def test_all_world_sizes_end_with_the_same_bits(worlds, case):
    alone = worlds[1][0][case]
    for world, ranks in worlds.items():
        for seen in ranks:
            assert seen[case]["loss"] == alone["loss"], world
            assert seen[case]["steps"] == alone["steps"] > 0
            for name, tensor in alone["state"].items():
                assert bits(seen[case]["state"][name]) == bits(tensor), (world, name)
