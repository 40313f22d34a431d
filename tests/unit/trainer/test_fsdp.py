"""FSDP2 over changes of size, in real ranks over gloo: the run is that of one process."""

import multiprocessing
import multiprocessing.connection
import time
from pathlib import Path

import pytest
import torch
from torch.distributed import TCPStore

from eflib.errors import UsageError
from eflib.trainer.state import checkpoint, fsdp
from tests.unit.trainer import fsdp_cases
from tests.unit.trainer.builders import a_trainer
from tests.unit.trainer.fsdp_cases import SIZES, STEPS, Net

NUM_WORKERS = 4
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Run four workers through all sizes once; the store is this process's own."""
    folder = tmp_path_factory.mktemp("fsdp")
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    context = multiprocessing.get_context("forkserver")  # torch is loaded once for all
    context.set_forkserver_preload(["tests.unit.trainer.fsdp_cases"])
    ranks = [
        context.Process(target=fsdp_cases.run_rank, args=(worker, store.port, str(folder)))
        for worker in range(NUM_WORKERS)
    ]
    for rank in ranks:
        rank.start()
    end = time.monotonic() + 200
    while time.monotonic() < end and not any(rank.exitcode for rank in ranks):
        multiprocessing.connection.wait([rank.sentinel for rank in ranks if rank.is_alive()], 1)
        if all(rank.exitcode == 0 for rank in ranks):
            break
    for rank in ranks:
        rank.kill()
        rank.join()
    assert [rank.exitcode for rank in ranks] == [0] * len(ranks)
    return folder


@pytest.fixture(scope="module")
def seen(folder):
    return [torch.load(folder / f"worker-{worker}.pt") for worker in range(NUM_WORKERS)]


@pytest.mark.processes
def test_parameters_after_every_generation_are_those_of_one_process(seen):
    alone = fsdp_cases.alone()
    ends = [STEPS * number for number in range(1, len(SIZES) + 1)]
    assert sorted(seen[0]["steps"]) == ends
    for worker in seen:
        for step, tensors in worker["steps"].items():
            for name, tensor in tensors.items():
                torch.testing.assert_close(tensor, alone[step][name], rtol=1e-5, atol=1e-6)


@pytest.mark.processes
def test_a_model_is_sharded_while_there_is_more_than_one_rank(seen):
    assert seen[0]["sharded"] == [size > 1 for size in SIZES]
    assert [worker.get("left") for worker in seen] == [None, 2, None, 5]


@pytest.mark.processes
def test_a_group_that_was_left_is_closed_so_that_peers_notice(seen):
    assert all(all(worker["closed"]) for worker in seen)


@pytest.mark.processes
@pytest.mark.parametrize("number", [1, 4])
def test_a_checkpoint_of_all_ranks_is_read_by_one(folder, seen, number):
    step = STEPS * number
    name = f"step-{step:010d}"
    assert name in seen[0]["written"]
    assert checkpoint.why_torn(folder / "checkpoints" / name) is None
    files = sorted(one.name for one in (folder / "checkpoints" / name).glob("rank-*"))
    assert len(files) == SIZES[number - 1]
    model, _, _, state = fsdp_cases.make()
    state.shard(0, 1)
    state.read(folder / "checkpoints" / name)
    assert state.global_step == step
    for key, tensor in state.model_tensors().items():
        torch.testing.assert_close(tensor, seen[0]["steps"][step][key], rtol=0, atol=0)
    fsdp_cases.train_step((model, *fsdp_cases.make()[1:3], state), 0, 1)


def test_members_of_lists_are_sharded_each_and_the_rest_together():
    model = Net()
    assert fsdp.layers(model, None) == [model.blocks[1], model.blocks[0]]  # from the inside out
    assert fsdp.layers(torch.nn.Sequential(model, model.out), None) == [model]


def test_layers_are_chosen_by_name_but_for_those_that_share_a_parameter():
    model = Net()
    assert fsdp.layers(model, ["blocks.*", "embed"]) == [*reversed(model.blocks), model.embed]
    assert fsdp.layers(model, ["blocks.*.linear"]) == [one.linear for one in reversed(model.blocks)]
    assert fsdp.layers(model, ["out"]) == []  # tied with another
    with pytest.raises(UsageError, match="no submodule with parameters is called 'layers"):
        fsdp.layers(model, ["layers.*"])


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"deterministic": True}, "parallel='fsdp' does not go with deterministic=True"),
        ({"sync_batchnorm": True}, "does not go with sync_batchnorm=True"),
        ({"precision": "fp16"}, "does not go with precision='fp16'"),
        ({"max_microbatch_size": "auto"}, "does not go with max_microbatch_size='auto'"),
    ],
)
def test_what_a_sharded_model_cannot_do_is_refused(settings, problem):
    with pytest.raises(UsageError, match=problem):
        a_trainer(parallel="fsdp", **settings)


def test_sparse_gradients_are_refused():
    model = torch.nn.Sequential(torch.nn.Embedding(4, 3, sparse=True), torch.nn.Linear(3, 1))
    with pytest.raises(UsageError, match="0 has sparse=True"):
        a_trainer(model, parallel="fsdp", optimizer=torch.optim.SGD(model.parameters()))


def test_another_kind_of_parallelism_is_refused():
    with pytest.raises(UsageError, match="parallel is 'pipeline'"):
        a_trainer(parallel="pipeline")


def test_a_parameter_that_cannot_be_sharded_is_named():
    model = torch.nn.Sequential(torch.nn.Linear(3, 1)).double()
    model.scale = torch.nn.Parameter(torch.tensor(1.0))
    with pytest.raises(UsageError, match="the parameter scale is a scalar"):
        a_trainer(model, parallel="fsdp")


@pytest.mark.parametrize("in_place", [False, True])
def test_a_compiled_model_is_refused(in_place):
    model = torch.nn.Sequential(torch.nn.Linear(3, 1)).double()
    compiled = torch.compile(model, backend="eager")
    if in_place:
        model.compile(backend="eager")
    with pytest.raises(UsageError, match="the model is compiled"):
        a_trainer(model if in_place else compiled, parallel="fsdp")


def test_one_worker_trains_the_same_with_and_without(tmp_path):
    runs = []
    for parallel in ("ddp", "fsdp"):
        trainer = a_trainer(parallel=parallel, checkpoint_dir=tmp_path / parallel)
        trainer.fit()
        trainer.save_checkpoint()
        runs.append([one.detach().clone() for one in trainer.model.parameters()])
    assert all(torch.equal(*pair) for pair in zip(*runs, strict=True))
    assert len(list(Path(tmp_path).glob("*/step-*"))) == 2


@pytest.mark.parametrize("first", ["ddp", "fsdp"])
def test_a_checkpoint_of_either_kind_is_read_by_the_other(tmp_path, first):
    then = {"ddp": "fsdp", "fsdp": "ddp"}[first]
    runs = []
    for kinds in ((first, then), (first, first)):
        for steps, parallel in zip((2, 4), kinds, strict=True):
            trainer = a_trainer(
                parallel=parallel, max_steps=steps, checkpoint_dir=tmp_path / "".join(kinds)
            )
            trainer.fit()
            trainer.save_checkpoint()
        runs.append([one.detach().clone() for one in trainer.model.parameters()])
    assert all(torch.equal(*pair) for pair in zip(*runs, strict=True))
