"""Training with sparse gradients at 1, 2 and 3 ranks; run by processes that a test starts."""

import torch
from torch.nn import functional

from tests.unit.trainer.builders import a_trainer
from tests.unit.trainer.gloo_cases import summed
from tests.unit.trainer.ranks import rank_of

WORLD_SIZES = (1, 2, 3)
NUM_ROWS = 40


def run_rank(rank, folder):
    """Run all cases at each world size that has this rank; leave what was seen in files."""
    torch.set_num_threads(1)
    for world_size in WORLD_SIZES:
        if rank >= world_size:
            continue
        with rank_of(rank, world_size, folder):
            seen = {name: train(name) for name in CASES}
        torch.save(seen, f"{folder}/{world_size}-{rank}.pt")


class Words(torch.utils.data.Dataset):
    """Five words each, some of them twice."""

    def __init__(self):
        generator = torch.Generator().manual_seed(1)
        self.x = torch.randint(NUM_ROWS - 3, (50, 5), generator=generator)
        self.y = torch.randn(50, 1, generator=generator, dtype=torch.float64)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return self.x[index], self.y[index]


class Bag(torch.nn.Module):
    """Nothing but a table."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        kind = torch.nn.EmbeddingBag
        self.table = kind(NUM_ROWS, 1, mode="mean", sparse=True, dtype=torch.float64)

    def forward(self, words):
        return self.table(words)


class Mixed(torch.nn.Module):
    """Two tables between dense layers: one of them only some batches use, one has no rows."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.table = torch.nn.Embedding(NUM_ROWS, 4, padding_idx=2, sparse=True)
        self.sometimes = torch.nn.Embedding(NUM_ROWS, 4, sparse=True)
        self.never = torch.nn.Embedding(NUM_ROWS, 4, sparse=True)
        self.last = torch.nn.Linear(4, 1)
        self.double()

    def forward(self, words):
        found = self.table(words).mean(1)
        odd = words[:, 0] % 4 == 0
        if odd.any():
            found = found.index_add(0, odd.nonzero()[:, 0], self.sometimes(words[odd]).mean(1))
        return self.last(found)


class Tied(torch.nn.Module):
    """A table that a dense layer uses as well: its gradients are dense."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.table = torch.nn.Embedding(NUM_ROWS, 4, sparse=True).double()
        self.last = torch.nn.Linear(NUM_ROWS, 1).double()

    def forward(self, words):
        found = self.table(words).mean(1)
        odd = words[:, 0] % 2 == 0
        if odd.all():  # a sparse gradient in this pass, a dense one in others
            return 0.1 * found.sum(1, keepdim=True)
        through_both = self.last(found @ self.table.weight.t())
        return torch.where(odd[:, None], 0.1 * found.sum(1, keepdim=True), through_both)


class Functional(torch.nn.Module):
    """No layer says that the gradient is going to be sparse."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.table = torch.nn.Parameter(torch.randn(NUM_ROWS, 1, dtype=torch.float64))

    def forward(self, words):
        return functional.embedding(words, self.table, sparse=True).mean(1)


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=0.1)


def sparse_adam(model):
    return torch.optim.SparseAdam(model.parameters(), lr=0.05)


MODELS = {
    "bag, SparseAdam": (Bag, sparse_adam, {}),
    "bag, SparseAdam, micro-batches": (Bag, sparse_adam, {"max_microbatch_size": 2}),
    "mixed": (Mixed, sgd, {}),
    "mixed, micro-batches": (Mixed, sgd, {"max_microbatch_size": 1}),
    "a rank without samples": (Mixed, sgd, {"global_batch_size": 1}),
    "sum and count": (Mixed, sgd, {"loss_fn": summed, "max_microbatch_size": 3}),
    "tied": (Tied, sgd, {}),
    "tied, micro-batches": (Tied, sgd, {"max_microbatch_size": 1}),
    "functional, SparseAdam": (Functional, sparse_adam, {}),
    "functional, micro-batches": (Functional, sparse_adam, {"max_microbatch_size": 1}),
}
CASES = [(name, mode) for name in MODELS for mode in ("default", "deterministic")]


def train(case):
    """Train from the same start; return the parameters and whether all gradients are sparse."""
    name, mode = case
    make, optimizer, changes = MODELS[name]
    model = make()
    settings = {"global_batch_size": 7, "max_steps": 9, **changes}
    trainer = a_trainer(
        model,
        optimizer=optimizer(model),
        dataset=Words(),
        deterministic=mode == "deterministic",
        **settings,
    )
    trainer.fit()
    return [one.detach().clone() for one in model.parameters()]


def train_plainly(name):
    """Do the same without the trainer, in the order of its samples."""
    make, optimizer, changes = MODELS[name]
    model, words = make(), Words()
    tool = optimizer(model)
    recorded = []

    class Order:
        def on_step_end(self, trainer):
            recorded.append([index for _, index in trainer.batch_samples])

        def on_rescale(self, trainer):
            pass

        on_fit_end = on_rescale

    settings = {"global_batch_size": 7, "max_steps": 9, **changes}
    settings.pop("max_microbatch_size", None)
    other = make()
    a_trainer(
        other, optimizer=optimizer(other), dataset=words, callbacks=[Order()], **settings
    ).fit()
    loss_fn = settings.get("loss_fn", functional.mse_loss)
    for indices in recorded:
        tool.zero_grad()
        loss = loss_fn(model(words.x[indices]), words.y[indices])
        (loss[0] / loss[1] if isinstance(loss, tuple) else loss).backward()
        tool.step()
    return [one.detach().clone() for one in model.parameters()]
