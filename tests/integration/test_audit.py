"""Three epochs under rescales and kills: the same samples, the same numbers."""

import os
import time

import pytest

from tests.chaos.audit import NUM_EVENTS, audit

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]


@pytest.mark.parametrize(
    ("optimizer", "deterministic"),
    [
        ("sgd", False),
        pytest.param("adam", True, marks=pytest.mark.long),
    ],
)
def test_rescales_and_kills_at_random_moments_change_no_sample_and_no_number(
    tmp_path, optimizer, deterministic
):
    """``EFLIB_CHAOS_SEED`` repeats a run; longer ones: ``python -m tests.chaos.audit``."""
    seed = int(os.environ.get("EFLIB_CHAOS_SEED") or time.time())
    print(f"EFLIB_CHAOS_SEED={seed}")

    found = audit(tmp_path, seed, optimizer, deterministic=deterministic)

    assert (found["rescales"], found["kills"]) == (NUM_EVENTS, NUM_EVENTS)
