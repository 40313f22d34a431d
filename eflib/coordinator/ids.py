"""Ids of jobs that were used before: none is given twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eflib import home as places
from eflib.store import keys

if TYPE_CHECKING:
    from pathlib import Path

    from eflib.store.signed import SignedStore


def highest_number(home: Path, store: SignedStore) -> int:
    """Return the highest number in the ids of jobs that left something: none is used again.

    Args:
        home: The folder of eflib's state, with the jobs' own folders.
        store: The cluster's store, with their keys.
    """
    folder = places.jobs_folder(home)
    ids = [one.name for one in folder.iterdir()] if folder.is_dir() else []
    ids += [keys.owner(key) for key in store.list(keys.JOBS)]
    endings = [one.rpartition("-")[2] for one in ids]
    # A name may be anything: only what the counter itself could have written counts.
    numbers = [int(one) for one in endings if one.isascii() and one.isdecimal() and len(one) < 15]
    return max(numbers, default=0)
