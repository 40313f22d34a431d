"""What the processes of the store's tests do; a module, so that spawned processes can import it."""

import itertools

from eflib.store import open_store


def count_up(url, key, times):
    """Add one to a number, ``times`` times, against everybody else who does."""
    store = open_store(url)
    for _ in range(times):
        while True:
            held = store.get(key)
            if store.compare_and_set(key, held, str(int(held or b"0") + 1).encode()):
                break


def append_named(url, stream, name, times):
    store = open_store(url)
    for number in range(times):
        store.append(stream, f"{name}:{number}".encode())


def claim_all(url, stream, name, rounds):
    """Claim every key of a row; what was won is told in the stream."""
    store = open_store(url)
    for number in range(rounds):
        if store.compare_and_set(f"race/{number}", None, name.encode()):
            store.append(stream, str(number).encode())


def write_for_ever(url, stream, started):
    """Use every way to write, without an end: until it is killed."""
    store = open_store(url)
    for number in itertools.count():
        value = (b"%d " % number) * 2000
        store.set("torn/set", value)
        held = store.get("torn/swap")
        store.compare_and_set("torn/swap", held, value)
        store.append(stream, value)
        if number == 3:
            started.set()
