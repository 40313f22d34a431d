"""Models whose ranks, layers or buffers differ in what training must cope with."""

import os

import torch
from torch.utils.checkpoint import checkpoint


class Mixed(torch.nn.Module):
    """Parameters of three dtypes, one that is never used, one that is not trained."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first = torch.nn.Linear(3, 4).double()
        self.second = torch.nn.Linear(4, 2)
        self.third = torch.nn.Linear(2, 1).bfloat16()
        self.unused = torch.nn.Linear(3, 3)
        self.frozen = torch.nn.Linear(2, 2).requires_grad_(False)

    def forward(self, x):
        hidden = self.frozen(self.second(self.first(x).float()))
        return self.third(hidden.bfloat16()).double()


class Rebuilt(torch.nn.Module):
    """One layer in two parts that the backward pass computes again: it gets two gradients."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.last = torch.nn.Linear(3, 1).double()
        self.shared = torch.nn.Linear(3, 3).double()

    def forward(self, x):
        x = x.requires_grad_()
        for _ in range(2):
            x = checkpoint(self.shared, x, use_reentrant=True).tanh()
        return self.last(x)


class OneSided(torch.nn.Module):
    """Which layers a rank uses depends on its samples."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.left, self.right, self.never = (torch.nn.Linear(3, 1).double() for _ in range(3))

    def forward(self, x):
        return (self.left if x[0, 0] > 0 else self.right)(x)


class HungryRank(torch.nn.Module):
    """Needs more memory than there is for the gradient of more than two samples, on rank 1."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Linear(5, 1)).double()

    def forward(self, x):
        hidden = self.layers[0](x)
        if os.environ.get("RANK") == "1" and len(x) > 2:
            hidden.register_hook(lambda _: torch.empty(2**52))  # after the last layer's gradient
        return self.layers[1](hidden)


class Normalised(torch.nn.Module):
    """BatchNorm of two kinds; statistics of few samples, so that wrong ones show."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first = torch.nn.Linear(3, 6)
        self.norm = torch.nn.BatchNorm1d(6)
        self.conv = torch.nn.Conv2d(1, 4, (1, 2))
        self.norm2 = torch.nn.BatchNorm2d(4, momentum=None)
        self.last = torch.nn.Linear(12, 1)
        self.double()

    def forward(self, x):
        x = self.norm(torch.tanh(self.first(x)))
        x = self.norm2(self.conv(x.view(-1, 1, 2, 3)))
        return self.last(torch.nn.functional.pad(x.flatten(1), (0, -4)))


class Counted(torch.nn.Module):
    """Counts the samples that it has seen; a layer in a list, one beside it."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.ModuleList([torch.nn.Linear(3, 5)])
        self.last = torch.nn.Linear(5, 1)
        self.double()
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def forward(self, x):
        self.seen += len(x)
        return self.last(torch.tanh(self.layers[0](x)))
