"""What a worker is told, beside what the process tests look at."""

from dataclasses import replace

import pytest

from eflib.agent.order import Node, make_order
from eflib.errors import StoreError
from eflib.messages.fields import replace as changed
from eflib.messages.records import JobSpec, WorkerAssignment

NODE = Node("n0", "/store", "/key", environment={"HOME": "/home/me", "RANK": "9"})
WORKER = WorkerAssignment(
    worker="w1",
    job="j1",
    job_name="digits",
    slot=1,
    generation=3,
    rank=5,
    world_size=8,
    local_rank=1,
    local_world_size=4,
    master_addr="127.0.0.1",
    master_port=29500,
    mode="profile",
    log_dir="/logs",
)
SPEC = JobSpec(script="/s/train.py", argv=("--lr", "1"), cwd="/s", env={"HOME": "/else"})


def order(node=NODE, **fields):
    return make_order(changed(WORKER, **fields), SPEC, node, "/errors/w1")


def test_the_job_overrides_the_node_and_the_assignment_overrides_both():
    environment = order().environment

    assert environment["HOME"] == "/else"
    assert environment["RANK"] == "5"
    assert environment["EFLIB_JOB_NAME"] == "digits"
    assert environment["EFLIB_MODE"] == "profile"
    assert environment["GROUP_RANK"] == "1"
    assert environment["GROUP_WORLD_SIZE"] == "2"
    assert environment["TORCHELASTIC_ERROR_FILE"] == "/errors/w1"


def test_the_log_is_named_by_generation_and_rank():
    assert order().log == "/logs/3/5.log"


def test_a_worker_on_a_gpu_sees_that_one_alone_as_its_first():
    node = replace(NODE, device="cuda", gpus=("GPU-a", "GPU-b"))

    environment = order(node).environment

    assert environment["CUDA_VISIBLE_DEVICES"] == "GPU-b"
    assert environment["LOCAL_RANK"] == "0"
    assert environment["EFLIB_SLOT"] == "1"


def test_a_worker_on_a_cpu_slot_sees_no_gpu():
    environment = order().environment

    assert environment["CUDA_VISIBLE_DEVICES"] == ""
    assert environment["LOCAL_RANK"] == "1"


@pytest.mark.parametrize(
    ("of_node", "of_job", "expected"),
    [(None, None, "1"), ("4", None, "4"), (None, "2", "2"), ("4", "2", "2")],
)
def test_one_openmp_thread_unless_somebody_said_otherwise(of_node, of_job, expected):
    name = "OMP_NUM_THREADS"
    node = replace(NODE, environment={name: of_node} if of_node else {})
    spec = changed(SPEC, env={name: of_job} if of_job else {})

    assert make_order(WORKER, spec, node, "/e").environment[name] == expected


def test_a_slot_that_the_node_does_not_have_is_refused():
    with pytest.raises(StoreError, match="w1 is assigned slot 1 of node n0, which has 1"):
        order(replace(NODE, device="cuda", gpus=("GPU-a",)))
