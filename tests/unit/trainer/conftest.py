"""Trainers under plain python, whatever the tests themselves were started by."""

import random

import numpy as np
import pytest
import torch


@pytest.fixture(autouse=True)
def plain_python(monkeypatch):
    """Hide torchrun's and eflib's variables, and give each test the same generators."""
    for name in ("EFLIB_WORKER", "RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
