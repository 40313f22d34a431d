"""The rendezvous handler over a folder, several nodes in one process."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from torch.distributed.elastic.rendezvous import (
    RendezvousClosedError,
    RendezvousConnectionError,
    RendezvousParameters,
    RendezvousTimeoutError,
)
from torch.distributed.elastic.rendezvous.registry import get_rendezvous_handler

from eflib.agent.rendezvous.handler import create_handler
from eflib.store import FolderStore
from tests.helpers.processes import wait_until

QUICK = {"last_call_timeout": "0.3", "keep_alive_interval": "0.5", "join_timeout": "30"}


@pytest.fixture
def node(tmp_path):
    """Make nodes of one run; all leave at the end."""
    made = []

    def make(nnodes=(1, 4), run="job", **settings):
        params = RendezvousParameters(
            "eflib", str(tmp_path), run, nnodes[0], nnodes[1], **{**QUICK, **settings}
        )
        made.append(create_handler(params))
        return made[-1]

    yield make
    for handler in made:
        handler.shutdown()


@pytest.fixture
def together():
    """Let several nodes go through the rendezvous at once; returns their results in order."""
    with ThreadPoolExecutor(8) as threads:

        def go(*nodes):
            return [threads.submit(one.next_rendezvous) for one in nodes]

        yield go


def results(futures):
    return [future.result(timeout=60) for future in futures]


def test_torch_finds_the_backend_by_its_entry_point(tmp_path):
    params = RendezvousParameters("eflib", str(tmp_path), "job", 1, 2)

    assert get_rendezvous_handler(params).get_backend() == "eflib"


def test_nodes_agree_on_ranks_and_on_one_store(node, together):
    infos = results(together(*(node((3, 3)) for _ in range(3))))

    assert sorted(info.rank for info in infos) == [0, 1, 2]
    assert {info.world_size for info in infos} == {3}
    assert len({info.bootstrap_store_info.master_port for info in infos}) == 1
    assert {info.bootstrap_store_info.master_addr for info in infos} == {"127.0.0.1"}
    infos[0].store.set("word", "given")
    assert [info.store.get("word") for info in infos] == [b"given"] * 3


def test_a_newcomer_waits_for_those_who_train_and_ranks_after_them(node, together):
    first, second = node(), node()
    [alone] = results(together(first))
    assert (alone.rank, alone.world_size) == (0, 1)
    assert first.num_nodes_waiting() == 0

    [late] = together(second)
    wait_until(lambda: first.num_nodes_waiting() == 1, "a newcomer to be seen")
    assert not late.done()
    [again] = results(together(first))

    assert (again.rank, again.world_size) == (0, 2)
    assert late.result(timeout=60).rank == 1
    assert again.bootstrap_store_info.master_port != alone.bootstrap_store_info.master_port


def test_a_newcomer_for_whom_there_is_no_room_is_not_counted(node, together):
    first, second = node((1, 1)), node((1, 1), join_timeout="1")
    results(together(first))

    [late] = together(second)

    with pytest.raises(RendezvousTimeoutError, match="1 nodes wait of 1 to 1, and 1 train"):
        late.result(timeout=60)
    assert first.num_nodes_waiting() == 0


def test_too_few_nodes_give_up_after_the_bound(node):
    with pytest.raises(RendezvousTimeoutError, match=r"in 0.5 s: 1 nodes wait of 2 to 4"):
        node((2, 4), join_timeout="0.5").next_rendezvous()


def test_who_waits_is_told_that_the_run_has_ended(node, together):
    first, second = node(), node()
    results(together(first))
    [late] = together(second)
    wait_until(lambda: first.num_nodes_waiting() == 1, "a newcomer to be seen")

    first.shutdown()

    with pytest.raises(RendezvousClosedError, match="run 'job' has ended"):
        late.result(timeout=60)
    assert second.is_closed()


def test_a_name_can_be_used_again_when_all_have_left(node, together):
    first = node()
    results(together(first))
    first.shutdown()

    [info] = results(together(node()))

    assert (info.rank, info.world_size) == (0, 1)


def test_a_node_that_died_is_not_waited_for(node, together):
    dead, alive = node(), node()
    results(together(dead))
    dead._heartbeat._ended.set()  # as kill -9 would: no more signs of life, no goodbye

    [info] = results(together(alive))

    assert (info.rank, info.world_size) == (0, 1)


def test_a_node_that_was_taken_for_dead_does_not_train_on(node, together):
    slow, other = node(), node()
    results(together(slow))
    slow._heartbeat._ended.set()
    results(together(other))

    wait_until(lambda: slow.num_nodes_waiting() == 1, "the later generation to be seen")


def test_an_endpoint_that_cannot_be_used_is_explained(tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(RendezvousConnectionError, match="cannot use the store in"):
        create_handler(RendezvousParameters("eflib", str(tmp_path / "file"), "job", 1, 2))


def test_a_tcp_store_needs_a_key(tmp_path):
    from eflib.store.serving import serve

    server = serve()
    endpoint = f"tcp://127.0.0.1:{server.port}"

    with pytest.raises(RendezvousConnectionError, match="a TCP store needs the cluster's key"):
        create_handler(RendezvousParameters("eflib", endpoint, "job", 1, 2))
    server.close()


@pytest.mark.parametrize("value", ["soon", "-1", "0"])
def test_a_setting_that_is_no_time_is_refused(tmp_path, value):
    params = RendezvousParameters("eflib", str(tmp_path), "job", 1, 2, join_timeout=value)

    with pytest.raises(ValueError, match="join_timeout must be a number of seconds"):
        create_handler(params)


def test_runs_of_one_folder_do_not_meet(node, together):
    infos = results(together(node(run="one"), node(run="a/b")))

    assert [info.world_size for info in infos] == [1, 1]
    assert threading.active_count() > 1


@pytest.mark.parametrize(
    "bad", [b"", b"garbage", b"[" * 100_000, b'{"schema":1,"mac":"\\ud800"}\n{}']
)
def test_nodes_meet_whatever_somebody_writes_where_they_do(node, together, tmp_path, bad):
    store = FolderStore(tmp_path)
    names = ("nodes/x", "nodes/y", "generations/00000001", "generations/00000009", "closed")
    for name in (*names, "generations/zz", "stores/1"):
        store.set(f"rendezvous/job/{name}", bad)
    one, other = node((2, 2)), node((2, 2))

    infos = results(together(one, other))

    assert sorted(info.rank for info in infos) == [0, 1]
    assert not one.is_closed()
    store.set("rendezvous/job/nodes/x", bad)
    assert one.num_nodes_waiting() == 0
