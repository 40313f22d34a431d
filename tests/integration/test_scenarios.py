"""Workers come, leave, fail and hang; the job goes on where it stood, or ends with the reason.

The situations are those of the elastic integration tests of Horovod and of torchft's tests with
injected failures: hosts added and removed, one rank fails, all ranks fail, a failure during the
recovery from another, the limit of restarts. Each job keeps account of its samples.
"""

import itertools
import signal
import time

import pytest

from tests.helpers.disturbed import DisturbedJob
from tests.helpers.processes import wait_until

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]


numbers = itertools.count()


@pytest.fixture
def start(four_slots, tmp_path):
    """Start a job that holds all slots; it is cancelled at the end if it still runs."""
    started = []

    def go(*words, size=4, **options):
        job = DisturbedJob(four_slots, tmp_path, f"job-{next(numbers)}", *words, **options)
        started.append(job)
        job.wait_size(size)
        return job

    yield go
    for job in started:
        if job.launched.poll() is None:
            four_slots.run("efctl", "cancel", job.job)
            job.launched.wait(60)


def check_end(job):
    """The job ends in order, its account adds up, and its ranks are equal."""
    status, last = job.finish()
    assert status == 0, f"{last}\n{job.logs()}"
    trail = job.trail()
    trail.check()
    trail.check_ranks()
    return trail


@pytest.mark.parametrize("word", ["raise", "oom"])
def test_one_rank_raises_and_the_others_go_on(start, word):
    job = start()
    before, number = job.members(), job.newest().number
    moment = time.time()
    job.ask_to_fail(before[2][1], word)
    three = job.wait_had_size(3, number)
    job.wait_size(4)
    job.wait_commit(moment)
    told = "asked to fail" if word == "raise" else "out of memory, as asked"
    assert any(told in line for line in job.told())
    trail = check_end(job)
    assert before[2][0] not in trail.members[three].values()
    assert trail.process_tree()[1] == 0


def test_a_frozen_worker_is_noticed_and_left_behind(start):
    job = start()
    before, number = job.members(), job.newest().number
    moment = time.time()
    job.signal(before[1][1], signal.SIGSTOP)
    three = job.wait_had_size(3, number, 40)
    assert time.time() - moment < 20
    assert any("hung: gave no sign of life for 10 s" in line for line in job.told())
    trail = check_end(job)
    assert before[1][0] not in trail.members[three].values()


def test_a_worker_that_computes_for_too_long_is_noticed_and_left_behind(start):
    job = start("--step-seconds", 3)
    before, number = job.members(), job.newest().number
    job.ask_to_fail(before[3][1], "hang")
    job.wait_had_size(3, number, 40)
    assert any("hung: computed in one step for more than 3 s" in line for line in job.told())
    assert "one step has computed for" in job.logs()
    check_end(job)


def test_all_ranks_are_killed_and_the_job_starts_again_from_its_checkpoint(start):
    job = start("--checkpoint-seconds", 0.5)
    job.wait_commit(time.time() + 1.5)
    before = [worker for worker, _ in job.members()]
    for _, pid in job.members():
        job.signal(pid)
    job.wait_commit(time.time() + 0.5)
    job.wait_size(4)
    trail = check_end(job)
    assert trail.process_tree()[1] == 1
    assert not set(before) & set(trail.members[max(trail.members)].values())
    steps = sorted(trail.commits[min(one for one in trail.commits if trail.commits[one])])
    assert steps[0] == 0
    restarted = [min(steps) for steps in trail.commits.values() if steps]
    assert sorted(restarted)[1] > 0  # not from the beginning


def test_a_second_worker_dies_while_the_others_recover(start):
    job = start()
    members = job.members()
    number = job.newest().number
    job.signal(members[3][1])
    what = f"generation {number + 1}"
    wait_until(lambda: job.generation(number + 1), what, poll=0.001)
    job.signal(members[0][1])
    job.wait_had_size(2, number)
    job.wait_size(4)
    check_end(job)


def test_a_worker_that_is_asked_to_go_leaves_at_the_next_step_and_is_replaced(start):
    job = start(pace=0.2)
    (worker, pid), number = job.members()[1], job.newest().number
    job.signal(pid, signal.SIGTERM)
    job.wait_had_size(3, number)
    job.wait_size(4)
    trail = check_end(job)
    assert trail.process_tree()[1] == 0
    assert not any("killed" in line for line in job.told())
    assert worker not in trail.members[max(trail.members)].values()


def test_a_worker_that_joins_after_the_last_step_ends_with_the_others(start):
    job = start()
    job.ask_for_size(3)
    job.wait_size(3)
    job.ask_to_fail(job.members()[0][1], "stop")
    job.ask_for_size(4)
    status, last = job.wait_end()
    assert status == 0, f"{last}\n{job.logs()}"
    trail = job.trail()
    trail.check()
    trail.check_ranks()
    assert len(trail.ended) == 4


def test_a_worker_that_comes_when_training_is_over_does_not_begin_anew(start):
    job = start()
    job.ask_for_size(3)
    number = job.wait_size(3)
    job.ask_to_fail(job.members()[0][1], "deaf")
    job.ask_for_size(4)
    what = f"a generation after {number} with 4 members"
    wait_until(lambda: job.newest().number > number and job.newest().world_size == 4, what, 60)
    trail = check_end(job)
    assert len(trail.ended) == 3
    assert trail.process_tree()[1] == 0


def test_the_same_error_three_times_ends_the_job_with_it(start):
    job = start("--fail-at", 30, "--checkpoint-seconds", 1)
    status, last = job.wait_end()
    assert (status, "ValueError: no luck at step 30" in last) == (1, True)
    assert job.status()["error"]["message"] == "ValueError: no luck at step 30"
