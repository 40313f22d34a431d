"""What the processes of the store's tests do; a module, so that spawned processes can import it."""

import itertools

from eflib.store import open_store


def race(url, stream, name, rounds):
    """Count, append and claim against everybody else who does; the winner of a claim is told."""
    store = open_store(url)
    for number in range(rounds):
        count_up(store, "count")
        store.append(stream, f"{name}:{number}".encode())
        if store.compare_and_set(f"race/{number}", None, name.encode()):
            store.append(f"{stream}/won", str(number).encode())


def count_up(store, key):
    while True:
        held = store.get(key)
        if store.compare_and_set(key, held, str(int(held or b"0") + 1).encode()):
            return


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
