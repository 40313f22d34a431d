import pytest

from eflib.errors import UsageError
from eflib.store import keys


def test_every_key_is_spelled_as_the_architecture_says():
    assert keys.INBOX == "coordinator/inbox"
    assert keys.COORDINATOR == "coordinator/record"
    assert keys.reply("r1") == "replies/r1"
    assert keys.node_record("n") == "nodes/n/record"
    assert keys.node_heartbeat("n") == "nodes/n/heartbeat"
    assert keys.node_assignment("n") == "nodes/n/assignment"
    assert keys.job_spec("j") == "jobs/j/spec"
    assert keys.job_progress("j") == "jobs/j/progress"
    assert keys.job_status("j") == "jobs/j/status"
    assert keys.worker_exit("j", "w") == "jobs/j/exits/w"
    assert keys.generation("j", 7) == "jobs/j/generations/00000007"


def test_generations_sort_by_number():
    numbers = [1, 2, 10, 100]
    listed = sorted(keys.generation("j", number) for number in numbers)
    assert [int(keys.last_part(key)) for key in listed] == numbers


def test_the_owner_of_a_key_can_be_read_off():
    assert keys.owner(keys.job_status("digits-1")) == "digits-1"
    assert keys.owner(keys.node_record("node0")) == "node0"
    assert keys.last_part(keys.worker_exit("j", "w3")) == "w3"


@pytest.mark.parametrize("name", ["", "a/b"])
def test_a_name_that_would_be_another_key_is_refused(name):
    with pytest.raises(UsageError, match="must be non-empty and without '/'"):
        keys.job_status(name)
