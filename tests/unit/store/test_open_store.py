import subprocess
import sys

import pytest

from eflib.errors import StoreError, UsageError
from eflib.store import FolderStore, open_store
from eflib.store.tcp import TcpStore

FORMS = "give a folder, file:///a/folder or tcp://host:port"


def test_a_path_and_a_file_address_open_the_same_folder(tmp_path):
    open_store(tmp_path / "a b").set("k", b"v")
    assert open_store(f"file://{tmp_path}/a%20b").get("k") == b"v"
    assert open_store(str(tmp_path / "a b")).url == str(tmp_path / "a b")


def test_a_home_folder_may_be_meant(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert isinstance(open_store("~/store"), FolderStore)
    assert (tmp_path / "store").is_dir()


@pytest.mark.parametrize(
    ("url", "problem", "hint"),
    [
        ("", "the store's address is empty", FORMS),
        ("redis://h:1", "no store is known by 'redis://', in 'redis://h:1'", FORMS),
        ("tcp:h:1", "cannot read the store's address 'tcp:h:1'", FORMS),
        (
            "file://a/b",
            "cannot read the store's address 'file://a/b': a file address has three slashes",
            "write file:///a/folder",
        ),
        (
            "tcp://node0",
            "cannot read the store's address 'tcp://node0': it needs a host and a port",
            "write tcp://host:port, as in tcp://node0:29500",
        ),
        (
            "tcp://node0:99999",
            "cannot read the store's address 'tcp://node0:99999': it needs a host and a port",
            "write tcp://host:port, as in tcp://node0:29500",
        ),
        (
            "tcp://:80",
            "cannot read the store's address 'tcp://:80': it needs a host and a port",
            "write tcp://host:port, as in tcp://node0:29500",
        ),
    ],
)
def test_nonsense_is_refused_with_the_forms_that_are_not(url, problem, hint):
    with pytest.raises(UsageError) as caught:
        open_store(url)
    assert (caught.value.problem, caught.value.hint) == (problem, hint)


def test_a_server_that_is_not_there_is_named(monkeypatch, free_port):
    monkeypatch.setattr(TcpStore.__init__, "__kwdefaults__", BOUNDS)
    with pytest.raises(StoreError) as caught:
        open_store(f"tcp://127.0.0.1:{free_port}")
    assert caught.value.problem == f"cannot reach 127.0.0.1:{free_port} (refused) after 0.3 s"
    assert caught.value.hint == (
        f"start it there with: python -m eflib.store.server --port {free_port}; "
        "if it runs, look for a firewall between"
    )


BOUNDS = {"connect_seconds": 0.3, "call_seconds": 0.5}


def test_a_folder_is_opened_without_loading_torch(tmp_path):
    code = (
        "import sys; from eflib.store import open_store, SignedStore, load_or_create_key;"
        f"store = open_store({str(tmp_path)!r}); store.append('s', b'v');"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
