"""What two ranks do together; run by the test's own process and by one that it starts."""

from unittest import mock

import torch
from torch.distributed.tensor import DTensor
from torch.nn import functional

from eflib.errors import StateMismatchError, UsageError
from eflib.trainer import timeouts
from eflib.trainer.elastic.transfer import compare_digests, exchange_rank_states, send_state
from eflib.trainer.state.digest import digest
from eflib.trainer.state.state import TrainingState
from eflib.trainer.step import reduction
from tests.unit.trainer.builders import Points, Recorder, a_trainer
from tests.unit.trainer.gloo_models import Counted, Mixed, Normalised, OneSided, Rebuilt
from tests.unit.trainer.ranks import rank_of
from tests.unit.trainer.streams import Streamed

WORLD_SIZE = 2


def run_rank(rank, folder):
    """Run all cases; each rank leaves what it saw in a file."""
    torch.set_num_threads(1)
    seen = {}
    with rank_of(rank, WORLD_SIZE, folder):
        for name, case in CASES.items():
            seen[name] = case(rank)
    torch.save(seen, f"{folder}/rank-{rank}.pt")


def plain_model():
    torch.manual_seed(0)
    layers = [torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, 1)]
    return torch.nn.Sequential(*layers).double()


def summed(outputs, targets):
    """Weigh targets above zero twice, as tokens weigh differently."""
    weights = 1 + (targets > 0).double()
    return (weights * (outputs - targets).square()).sum(), float(weights.sum())


TRAININGS = {
    "uneven shares": {"global_batch_size": 7},
    "micro-batches": {"global_batch_size": 8, "max_microbatch_size": 2},
    "a rank without samples": {"global_batch_size": 1},
    "sum and count": {"global_batch_size": 7, "loss_fn": summed, "max_microbatch_size": 2},
    "short last batch": {"global_batch_size": 7, "epoch_end": "short", "max_epochs": 3},
    "out of memory on one rank": {"global_batch_size": 8, "max_microbatch_size": "auto"},
    "dropped last batch": {"global_batch_size": 7, "epoch_end": "drop", "max_epochs": 3},
    "sum and count, to the end": {
        "global_batch_size": 9,
        "loss_fn": summed,
        "max_microbatch_size": 3,
        "epoch_end": "short",
        "max_epochs": 2,
    },
    "clipped": {"global_batch_size": 5, "max_grad_norm": 0.01},
}
MODELS = {"mixed dtypes": Mixed, "computed again": Rebuilt, "one-sided": OneSided}
TRAININGS["mixed dtypes"] = {"global_batch_size": 6}
SMALL_BUCKETS = {
    "many buckets": {"global_batch_size": 7},
    "many buckets, micro-batches": {"global_batch_size": 8, "max_microbatch_size": 3},
    "many buckets, a rank without samples": {"global_batch_size": 1},
    "one-sided": {"global_batch_size": 6, "max_microbatch_size": 1},
    "computed again": {"global_batch_size": 6},
}
TRAININGS |= SMALL_BUCKETS
SYNCED = {
    "synced statistics": {"global_batch_size": 7, "sync_batchnorm": True},
    "synced statistics, to the end": {
        "global_batch_size": 7,
        "sync_batchnorm": True,
        "epoch_end": "short",
        "max_epochs": 2,
    },
}
TRAININGS |= SYNCED
MODELS |= dict.fromkeys(SYNCED, Normalised)

SHARDED = {
    "sharded": {"global_batch_size": 7, "max_microbatch_size": 2, "max_grad_norm": 0.01},
    "sharded, a rank without samples": {"global_batch_size": 1},
    "sharded, sum and count": {"global_batch_size": 7, "loss_fn": summed},
    "sharded, one sample at the end": {
        "global_batch_size": 11,
        "max_microbatch_size": 4,
        "epoch_end": "short",
        "max_epochs": 2,
    },
}
TRAININGS |= {name: settings | {"parallel": "fsdp"} for name, settings in SHARDED.items()}
MODELS |= dict.fromkeys(SHARDED, Counted)

STREAMS = ["stream", "stream, read ahead", "sharded, one sample at the end"]
DATA = dict.fromkeys(STREAMS, lambda: Streamed(23))
TRAININGS["stream"] = {"global_batch_size": 7}
TRAININGS["stream, read ahead"] = {
    "global_batch_size": 7,
    "epoch_end": "short",
    "max_epochs": 2,
    "num_workers": 1,
}


def train(name):
    """Train from the same start; return what a rank holds at the end."""
    model = MODELS.get(name, plain_model)()
    rate = 0.01 if name in {"mixed dtypes", *SYNCED} else 0.1
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    recorder = Recorder()
    settings = {"callbacks": [recorder], **TRAININGS[name]}
    data = DATA.get(name, lambda: Points(23))()
    trainer = a_trainer(model, optimizer=optimizer, dataset=data, **settings)
    size = 64 if name in SMALL_BUCKETS else reduction.BUCKET_BYTES
    with mock.patch.multiple(reduction, BUCKET_BYTES=size, FIRST_BUCKET_BYTES=size):
        run(trainer, name)
    return {
        "weights": [whole(one) for one in model.parameters()],
        "buffers": [one.clone() for one in model.buffers()],
        "losses": recorder.losses,
        "samples": recorder.samples,
        "world": (trainer.rank, trainer.world_size),
    }


def whole(parameter):
    """Return a parameter, put together from the rows of all ranks if they have rows of it."""
    own = parameter.detach()
    return own.full_tensor() if isinstance(own, DTensor) else own.clone()


def run(trainer, name):
    """Train to the end."""
    model, optimizer = trainer.model, trainer.optimizer
    if name == "uneven shares":
        for inputs, targets in trainer:  # a habit of loops: it must take nothing away
            loss = torch.nn.functional.mse_loss(model(inputs), targets)
            optimizer.zero_grad()
            trainer.step(loss)
    else:
        trainer.fit()


def stop_on_one_rank(rank):
    trainer = a_trainer(global_batch_size=6)
    for inputs, targets in trainer:
        if rank == 1 and trainer.global_step == 3:
            trainer.stop()
        trainer.step(torch.nn.functional.mse_loss(trainer.model(inputs), targets))
    return trainer.global_step


def evaluate_sharded(rank):
    """Evaluate on both ranks, then on rank 1 alone."""
    trainer = a_trainer(Counted(), parallel="fsdp", global_batch_size=6)
    trainer.fit()
    error = functional.mse_loss
    seen = {"both": trainer.evaluate(Points(9), error, batch_size=4)}
    if rank == 1:
        with mock.patch.object(timeouts, "EVALUATE", 0.1):
            seen["alone"] = refusal(lambda: trainer.evaluate(Points(9), error))
    return seen


def streams_that_differ(rank):
    """Rank 1's stream ends two samples early."""
    trainer = a_trainer(dataset=Streamed(22 - 2 * rank), max_epochs=1, epoch_end="short")
    return refusal(trainer.fit)


# Handing over state ------------------------------------------------------------------------------


class Odd(torch.nn.Module):
    """Every kind of tensor that a broadcast may get wrong."""

    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        last = torch.channels_last
        self.small = torch.nn.Conv2d(4, 4, 3).to(memory_format=last)
        self.large = torch.nn.Conv2d(200, 200, 3).to(memory_format=last)
        self.turned = torch.nn.Parameter(torch.randn(5, 3).t())
        self.wide = torch.nn.Parameter(torch.randn(600, 700).t())
        self.register_buffer("number", torch.randn(()))
        self.register_buffer("count", torch.randint(0, 99, ()))
        self.register_buffer("halved", torch.randn(7).bfloat16())
        self.register_buffer("flags", torch.rand(5) > 0.5)
        self.register_buffer("empty", torch.zeros(0, 3))
        self.register_buffer("hidden", torch.randn(3), persistent=False)


def odd_state(seed, num_steps):
    model = Odd(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(num_steps):
        for one in model.parameters():
            one.grad = torch.randn_like(one)
        optimizer.step()
    state = TrainingState(model, {"optimizer": optimizer})
    state.global_step = num_steps
    return state


def catch_up(rank):
    """Rank 1 is a step ahead of rank 0."""
    return hand_over(odd_state(seed=rank, num_steps=(1, 2)[rank]), has_state=True)


def join(rank):
    """Rank 1 has just come."""
    return hand_over(odd_state(seed=rank, num_steps=(2, 0)[rank]), has_state=rank == 0)


def hand_over(state, *, has_state):
    before = digest(*state.capture())
    rank_states = exchange_rank_states(state, has_state=has_state, settings={})
    sent = send_state(state, rank_states)
    common = compare_digests(state)
    state.model_tensors()["number"].add_(1)  # it is its own: nothing is shared with a message
    return {"before": before, "digest": common, "step": state.global_step, "sent": sent}


def nothing_to_send(rank):
    """Nobody lacks the state: buffers alone are sent."""
    state = odd_state(seed=5, num_steps=1)
    del rank
    sent = send_state(state, exchange_rank_states(state, has_state=True, settings={}))
    compare_digests(state)
    return sent - sum(buffer.numel() * buffer.element_size() for buffer in state.buffers())


def linear_state(width=4, **layers):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, width))
    for name, layer in layers.items():
        model.add_module(name, layer)
    return TrainingState(model, {"optimizer": torch.optim.SGD(model.parameters())})


def refusal(act):
    try:
        act()
    except (StateMismatchError, UsageError) as error:
        return error.render()
    return ""


def another_width(rank):
    state = linear_state(width=4 + (rank == 1))
    return refusal(lambda: exchange_rank_states(state, has_state=False, settings={}))


def another_layer(rank):
    state = linear_state(**({"extra": torch.nn.Linear(1, 1)} if rank == 1 else {}))
    return refusal(lambda: exchange_rank_states(state, has_state=False, settings={}))


def other_settings(rank):
    """Nobody has a state: nobody knows who is right."""
    settings = {"seed": 3 + 4 * rank, "max_steps": 10}
    return refusal(lambda: exchange_rank_states(linear_state(), has_state=False, settings=settings))


def joiner_with_other_settings(rank):
    """Rank 0 holds the job's state: it goes on without rank 1."""
    settings = {"seed": 3, "max_steps": 10 + rank}
    return refusal(
        lambda: exchange_rank_states(linear_state(), has_state=rank == 0, settings=settings)
    )


def problem_on_one_rank(rank):
    problem = "the switch drops packets" if rank == 1 else ""
    found = exchange_rank_states(linear_state(), has_state=True, settings={}, problem=problem)
    return [one.problem for one in found]


def came_apart(rank):
    state = linear_state()
    if rank == 1:
        state.model_tensors()["0.bias"][1] += 1e-6
    return refusal(lambda: compare_digests(state))


CASES = {
    **{name: (lambda rank, name=name: train(name)) for name in TRAININGS},
    "stop": stop_on_one_rank,
    "evaluate sharded": evaluate_sharded,
    "streams that differ": streams_that_differ,
    "catch up": catch_up,
    "join": join,
    "nothing to send": nothing_to_send,
    "another width": another_width,
    "another layer": another_layer,
    "other settings": other_settings,
    "joiner with other settings": joiner_with_other_settings,
    "problem on one rank": problem_on_one_rank,
    "came apart": came_apart,
}
