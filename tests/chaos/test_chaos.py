"""The short form of ``python -m tests.chaos.run``: a few faults in a row, from a printed seed."""

import os
import time

import pytest

from tests.chaos.faults import QUICK
from tests.chaos.run import plan, run

pytestmark = [pytest.mark.processes, pytest.mark.chaos, pytest.mark.timeout(300)]


def test_a_plan_is_a_function_of_its_seed_and_has_all_kinds():
    assert plan(7, 30) == plan(7, 30) != plan(8, 30)
    assert set(plan(7, len(QUICK), tuple(QUICK))) == set(QUICK)


def test_six_faults_in_a_row_cost_no_sample_and_leave_nothing(tmp_path):
    """``EFLIB_CHAOS_SEED`` repeats a run."""
    seed = int(os.environ.get("EFLIB_CHAOS_SEED") or time.time())
    print(f"EFLIB_CHAOS_SEED={seed}")

    found = run(tmp_path, seed, 6, tuple(QUICK))

    assert found["faults"] == 6
