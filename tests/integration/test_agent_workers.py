"""One agent, real workers: what starts, where its output goes, how its end is told."""

import json
import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from eflib.store import keys
from tests.helpers.agents import AgentProcess, Stage
from tests.helpers.processes import gone, is_alive, leaving_no_process, wait_until
from tests.helpers.raw import Raw

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    return Stage(tmp_path_factory.mktemp("cluster"))


@pytest.fixture(scope="module")
def agent(stage):
    with leaving_no_process():
        started = AgentProcess(stage, options=["--grace", "3"])
        yield started
        assert started.stop() == 0, started.log()


def run(stage, *workers):
    """Run workers to their end, one after another in the assignment; returns their exits."""
    stage.assign(*workers)
    return [stage.wait_exit(worker) for worker in workers]


def test_an_agent_describes_its_node(stage, agent):
    record = stage.record()

    assert record["slots"] == 4
    assert record["device"] == "cpu"
    assert record["pid"] == agent.pid
    assert record["store_host"] == "127.0.0.1"
    assert record["store_port"] > 0
    assert {"node", "device_name", "host", "agent"} <= set(record)
    assert stage.messages("node_joined") == [{"type": "node_joined", "node": "n0"}]


def test_a_worker_runs_its_script_and_its_end_is_told(stage, agent):
    worker = stage.worker(
        "plain",
        "import sys\nprint('out', sys.argv[1:])\nprint('err', file=sys.stderr)",
        argv=["-x"],
    )

    [end] = run(stage, worker)

    assert (end["exitcode"], end["signal"], end["error"]) == (0, None, None)
    assert stage.log(worker).splitlines() == ["out ['-x']", "err"]
    assert end["log"] == str(stage.log_file(worker))
    [started] = [m for m in stage.messages("worker_started") if m["worker"] == "plain"]
    assert started == {
        "type": "worker_started",
        "node": "n0",
        "job": "job-plain",
        "worker": "plain",
        "pid": end["pid"],
    }
    exited = wait_until(
        lambda: [m for m in stage.messages("worker_exited") if m["worker"] == "plain"],
        "the message of the worker's end",
    )
    assert exited == [{"type": "worker_exited", **end}]


def test_a_worker_comes_warm_out_of_the_pool(stage, agent):
    code = """
        import sys, os
        warm = ["torch", "torch.optim", "torch._dynamo", "torch.distributed", "numpy"]
        import threading
        print(os.getppid(), [name for name in warm if name not in sys.modules])
        import torch
        print(torch.cuda.is_initialized(), torch.distributed.is_initialized())
    """
    first, second = stage.worker("warm-1", code), stage.worker("warm-2", code)

    run(stage, first, second)

    pool = agent.pool_pid()
    assert stage.log(first).splitlines() == [f"{pool} []", "False False"]
    assert stage.log(second) == stage.log(first)


def test_a_worker_finds_what_torchrun_and_eflib_promise(stage, agent):
    code = """
        import json, os, sys, multiprocessing
        env = {k: v for k, v in os.environ.items()}
        print(json.dumps([env, os.getcwd(), sys.path[0], sys.argv, __name__, __file__,
            multiprocessing.get_start_method(), os.getsid(0) == os.getpid(), sys.stdin.read()]))
    """
    worker = stage.worker(
        "env",
        code,
        argv=["a b", "--", "c"],
        env={"MINE": "1", "PYTHONPATH": "/extra"},
        rank=2,
        world_size=4,
        local_world_size=4,
    )

    run(stage, worker)

    env, cwd, path, argv, name, file, method, leads, stdin = json.loads(stage.log(worker))
    script = str(stage.folder / "env.py")
    assert (cwd, path) == (str(stage.folder), str(stage.folder))
    assert (argv, name, file) == ([script, "a b", "--", "c"], "__main__", script)
    assert method == multiprocessing.get_context().get_start_method()
    assert leads
    assert stdin == ""
    expected = {
        "RANK": "2",
        "LOCAL_RANK": "2",
        "WORLD_SIZE": "4",
        "LOCAL_WORLD_SIZE": "4",
        "GROUP_RANK": "0",
        "GROUP_WORLD_SIZE": "1",
        "ROLE_RANK": "2",
        "ROLE_WORLD_SIZE": "4",
        "ROLE_NAME": "default",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "1",
        "TORCHELASTIC_RESTART_COUNT": "0",
        "TORCHELASTIC_MAX_RESTARTS": "0",
        "TORCHELASTIC_RUN_ID": "job-env",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCH_NCCL_ASYNC_ERROR_HANDLING": "1",
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "EFLIB_STORE": stage.store_url,
        "EFLIB_KEY_FILE": str(stage.key_file),
        "EFLIB_JOB": "job-env",
        "EFLIB_JOB_NAME": "job-env",
        "EFLIB_WORKER": "env",
        "EFLIB_NODE": "n0",
        "EFLIB_SLOT": "0",
        "EFLIB_GENERATION": "1",
        "EFLIB_MODE": "train",
        "EFLIB_LOG_DIR": str(stage.log_dir / "env"),
        "EFLIB_CHECKPOINT_DIR": str(stage.log_dir / "env" / "checkpoints"),
        "MINE": "1",
        "PYTHONPATH": "/extra",
    }
    assert {name: env.get(name) for name in expected} == expected
    assert "TORCHELASTIC_ERROR_FILE" in env
    assert not [name for name in env if name.startswith("EFLIB_POOL")]


CHILD_STAYS = "import os, time\nif os.fork() == 0: time.sleep(600)\n"
ENDS = {
    "raises": ("def f():\n    raise ValueError('boom')\nf()", 1, None, "ValueError: boom"),
    "syntax": ("x = (", 1, None, "SyntaxError: '(' was never closed"),
    "missing": (
        "import nosuchmodule",
        1,
        None,
        "ModuleNotFoundError: No module named 'nosuchmodule'",
    ),
    "exit3": ("import sys; sys.exit(3)", 3, None, "exited with code 3"),
    "exit0": ("import sys; sys.exit(0)", 0, None, None),
    "exitnone": ("import sys; sys.exit()", 0, None, None),
    "exittext": ("import sys; sys.exit('no data')", 1, None, "no data"),
    "hard5": ("import os; os._exit(5)", 5, None, "exited with code 5"),
    "hard255": (CHILD_STAYS + "os._exit(255)", 255, None, "exited with code 255"),
    "killed": ("import os; os.kill(os.getpid(), 9)", -9, "SIGKILL", "killed by SIGKILL"),
    "segfault": ("import os; os.kill(os.getpid(), 11)", -11, "SIGSEGV", "killed by SIGSEGV"),
    "interrupt": ("raise KeyboardInterrupt", -2, "SIGINT", "KeyboardInterrupt"),
}


def test_every_kind_of_end_is_told_as_it_was(stage, agent):
    workers = {name: stage.worker(name, end[0]) for name, end in ENDS.items()}

    exits = dict(zip(ENDS, run(stage, *workers.values()), strict=True))

    for name, (_, exitcode, killer, message) in ENDS.items():
        end = exits[name]
        told = end["error"]["message"] if end["error"] else None
        assert (name, end["exitcode"], end["signal"], told) == (name, exitcode, killer, message)


def test_a_traceback_begins_at_the_script(stage, agent):
    worker = stage.worker("trace", "def f():\n    raise ValueError('boom')\n\n\nf()")

    [end] = run(stage, worker)

    lines = end["error"]["traceback"].splitlines()
    script = stage.folder / "trace.py"
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[1] == f'  File "{script}", line 5, in <module>'
    assert lines[-1] == "ValueError: boom"
    assert stage.log(worker).splitlines() == lines


def test_a_missing_script_is_named(stage, agent):
    worker = stage.worker("noscript")
    (stage.folder / "noscript.py").unlink()

    [end] = run(stage, worker)

    assert end["exitcode"] == 2
    assert end["error"]["message"] == f"no script at {stage.folder / 'noscript.py'}"


def test_a_module_runs_with_its_folder_on_the_path(stage, agent):
    worker = stage.worker("mod")
    package = stage.folder / "package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "train.py").write_text("import sys\nprint(__name__, sys.argv[1:], sys.path[0])")
    spec = {"module": "package.train", "argv": ["x"], "cwd": str(stage.folder), "env": {}}
    Raw(stage.store).put(keys.job_spec("job-mod"), spec)

    [end] = run(stage, worker)

    assert stage.log(worker) == f"__main__ ['x'] {stage.folder}\n"
    assert end["exitcode"] == 0


def test_a_worker_that_cannot_be_started_is_told_as_ended(stage, agent):
    blocked = stage.folder / "file"
    blocked.touch()
    worker = stage.worker("blocked", log_dir=str(blocked))
    unknown = {**stage.worker("unknown"), "job": "job-nowhere"}

    ends = run(stage, worker, unknown)

    assert [end["pid"] for end in ends] == [None, None]
    assert ends[0]["error"]["message"].startswith("cannot start: [Errno 20] Not a directory")
    problem = "cannot start: job job-nowhere has no spec in the store that can be read"
    assert ends[1]["error"]["message"] == problem


def test_a_killed_worker_is_told_and_the_others_live(stage, agent):
    code = "import os, time\nprint([os.getpid()], flush=True)\ntime.sleep(600)"
    victim, other = stage.worker("victim", code), stage.worker("bystander", code)
    stage.assign(victim, other)
    [pid], [other_pid] = stage.wait_pids(victim), stage.wait_pids(other)

    os.kill(pid, signal.SIGKILL)

    assert stage.wait_exit(victim)["signal"] == "SIGKILL"
    assert is_alive(other_pid)
    assert stage.exit_of(other) is None
    stage.assign()
    assert stage.wait_exit(other)["signal"] == "SIGTERM"


def test_a_worker_that_vanishes_from_the_assignment_may_leave_by_itself(stage, agent):
    code = """
        import signal, sys, time
        def leave(*_):
            print("leaving", flush=True)
            sys.exit(0)
        signal.signal(signal.SIGTERM, leave)
        print("[]", flush=True)
        time.sleep(600)
    """
    worker = stage.worker("leaver", code)
    stage.assign(worker)
    stage.wait_log(worker, "[]")

    stage.assign()

    assert stage.wait_exit(worker)["exitcode"] == 0
    assert "leaving" in stage.log(worker)


def test_a_worker_that_does_not_leave_is_killed_after_the_grace(stage, agent):
    code = """
        import signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("[]", flush=True)
        time.sleep(600)
    """
    worker = stage.worker("stubborn", code)
    stage.assign(worker)
    stage.wait_log(worker, "[]")

    stage.assign()

    assert stage.wait_exit(worker)["signal"] == "SIGKILL"


def test_what_a_worker_leaves_behind_goes_with_it(stage, agent):
    code = """
        import json, os, subprocess, sys
        sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
        one = subprocess.Popen(sleep)
        two = subprocess.Popen(sleep, start_new_session=True)
        three = subprocess.Popen(sleep, start_new_session=True, env={})
        four = os.fork()
        if four == 0:
            os.setsid()
            import time; time.sleep(600)
        print(json.dumps([one.pid, two.pid, three.pid, four]), flush=True)
        os._exit(0)
    """
    worker = stage.worker("parent", code)

    [end] = run(stage, worker)

    assert end["exitcode"] == 0
    gone(stage.wait_pids(worker, 4))


def test_exit_functions_and_threads_of_the_script_finish(stage, agent):
    code = """
        import atexit, threading, time
        atexit.register(print, "at exit")
        def work():
            time.sleep(0.2)
            print("thread done")
        threading.Thread(target=work).start()
        print("end of script")
    """
    worker = stage.worker("ending", code)

    run(stage, worker)

    assert stage.log(worker).splitlines() == ["end of script", "thread done", "at exit"]


def test_a_log_is_continued_not_overwritten(stage, agent):
    first = stage.worker("log-1", "print('first')", log_dir=str(stage.log_dir / "shared"))
    second = stage.worker("log-2", "print('second')", log_dir=str(stage.log_dir / "shared"))

    run(stage, first)
    run(stage, first, second)

    assert stage.log(second) == "first\nsecond\n"


def test_data_loader_workers_belong_to_the_worker(stage, agent):
    code = """
        import torch, os
        from torch.utils.data import DataLoader
        class Parents(torch.utils.data.Dataset):
            def __len__(self): return 4
            def __getitem__(self, i): return os.getppid()
        found = {int(x) for batch in DataLoader(Parents(), num_workers=2) for x in batch}
        print(found == {os.getpid()})
    """
    worker = stage.worker("loader", code)

    [end] = run(stage, worker)

    assert (stage.log(worker), end["exitcode"]) == ("True\n", 0)


def test_no_error_file_stays(stage, agent):
    run(stage, stage.worker("dirty", "raise ValueError"))

    assert list(Path(stage.folder, "agents", "n0").glob("*.error.json*")) == []
