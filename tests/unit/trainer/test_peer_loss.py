"""A rank that dies in a step counts as lost, by where the error comes up; real ranks over gloo."""

from functools import partial

import pytest
import torch

from tests.unit.trainer import loss_cases
from tests.unit.trainer.loss_cases import CASES
from tests.unit.trainer.ranks import run_ranks

pytestmark = [pytest.mark.processes, pytest.mark.slow]


@pytest.mark.parametrize("case", CASES)
def test_a_rank_that_dies_is_told_apart_from_an_error_of_the_script(tmp_path, case):
    run_ranks(partial(loss_cases.run_rank, case=case), 2, tmp_path)
    kind, is_lost, trace = torch.load(tmp_path / "seen.pt")
    assert kind == ("RuntimeError" if case.startswith("fsdp") else "PeerLostError"), trace
    assert is_lost == (case != "fsdp, own error"), trace
