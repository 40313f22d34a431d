"""What the store tells without a coordinator: status documents, nodes, whether somebody runs."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from eflib.agent.process_tree import is_alive
from eflib.errors import UsageError
from eflib.home import default_store_url, home_folder, key_file, make_home, store_folder
from eflib.launcher.arguments import close_match
from eflib.launcher.wording import has_ended
from eflib.messages.codec import facts_of
from eflib.messages.records import Assignment, CoordinatorRecord, JobSpec, NodeRecord
from eflib.messages.status import JobIndex, JobStatus
from eflib.store import SignedStore, keys, load_or_create_key, open_store, quiet

if TYPE_CHECKING:
    from pathlib import Path

    from eflib.messages.fields import Message

Document = dict[str, Any]

MAX_ID = 100
"""Longest id of a job, in characters: its name, a hyphen and a number."""
UNREADABLE = "UNREADABLE"
"""Shown as the state of a job whose status document cannot be read."""


class UnknownJobError(UsageError):
    """No job has this name or id."""

    code = "unknown-job"


class Cluster:
    """One cluster as its store shows it; asks nobody and so works while no coordinator runs.

    Args:
        home: The folder of eflib's state.
        store_url: The store's address.
        store: The store, for a test; by default the one at the address, signed with home's key.
        must_exist: A store in a folder is not made where there is none.
    """

    def __init__(
        self,
        home: Path,
        store_url: str,
        store: SignedStore | None = None,
        *,
        must_exist: bool = False,
    ) -> None:
        self.home = home
        self.store_url = store_url
        if store is None:
            opened = open_store(store_url, must_exist=must_exist)
            store = SignedStore(opened, load_or_create_key(key_file(home)))
        self.store = store

    def jobs(self, *, every: bool = False) -> list[Document]:
        """Return the status documents of jobs, in the order of their submission.

        One that cannot be read stands for itself, with the reason: its job does not vanish.

        Args:
            every: All jobs that ever were; else those that have not ended, and the last that have.
        """
        index = None if every else self.store.fetch(keys.JOB_INDEX, JobIndex)
        if index is None:
            listed = [key for key in self.store.list(keys.JOBS) if keys.last_part(key) == "status"]
        else:
            listed = [keys.job_status(job) for job in (*index.present, *index.ended)]
        found = []
        for key in listed:
            status = self._read(key, JobStatus)
            if status is not None:
                found.append(status)
            elif self.store.store.get(key) is not None:  # it was not deleted meanwhile
                found.append(_unreadable(keys.owner(key)))
        return sorted(found, key=lambda job: (job.get("submitted") or 0.0, str(job.get("job"))))

    def status(self, job_id: str) -> Document | None:
        """Return the status document of a job, by id; None while there is none."""
        return self._read(keys.job_status(job_id), JobStatus)

    def find(self, name: str) -> Document:
        """Return the status document of the job with this id, or the last one with this name.

        Of several with the name, one that has not ended comes first.

        Raises:
            UnknownJobError: There is none.
        """
        may_be_id = name and "/" not in name and len(name) <= MAX_ID
        by_id = self.status(name) if may_be_id else None
        if by_id is not None:
            return by_id
        jobs = self.jobs()
        named = _named(jobs, name)
        if not named:
            jobs = self.jobs(every=True)
            named = _named(jobs, name)
        if named:
            return max(named, key=lambda job: (not has_ended(job), job.get("submitted") or 0.0))
        known = [str(job.get(field)) for job in jobs for field in ("name", "job")]
        hint = close_match(name, known) or "see all jobs with: efctl list"
        raise UnknownJobError(f"there is no job {name!r}", hint=hint)

    def spec(self, job_id: str) -> Document | None:
        """Return what was submitted as a job."""
        return self._read(keys.job_spec(job_id), JobSpec)

    def nodes(self) -> list[Document]:
        """Return the records of the nodes, each with the ``workers`` that it should run."""
        found = []
        for key in self.store.list(keys.NODES):
            record = self._read(key, NodeRecord) if keys.last_part(key) == "record" else None
            if record is not None:
                assignment = self._read(keys.node_assignment(keys.owner(key)), Assignment) or {}
                found.append({**record, "workers": assignment.get("workers", [])})
        return found

    def _read(self, key: str, kind: type[Message]) -> Document | None:
        """Return what stands at a key as facts to show; None for what is not of its type."""
        message = self.store.fetch(key, kind)
        return None if message is None else facts_of(message)

    def lost_nodes(self) -> list[str]:
        """Return the nodes of this machine whose agents have gone without a farewell.

        Their workers are gone as well. Of other machines only the coordinator hears.
        """
        here = socket.gethostname()
        return [
            str(one["node"])
            for one in self.nodes()
            if one.get("host") == here and not is_alive(one.get("pid"))
        ]

    def coordinator(self) -> Document | None:
        """Return the coordinator's record, or None if none runs as far as one can see from here.

        On its own machine its process is looked for; from another one its record is believed.
        """
        record = self._read(keys.COORDINATOR, CoordinatorRecord)
        if record is None or record.get("stopped"):
            return None
        if record.get("host") == socket.gethostname() and not is_alive(record.get("pid")):
            return None
        return record


def _named(jobs: list[Document], name: str) -> list[Document]:
    return [job for job in jobs if name in (job.get("name"), job.get("job"))]


def open_cluster(store: str | None, *, is_new: bool = False) -> Cluster:
    """Return the cluster whose store is at an address.

    Args:
        store: The address; None means that of ``$EFLIB_HOME``.
        is_new: A store in a folder that was named is made where there is none.

    Raises:
        StoreError: Its store or the state folder cannot be used, or there is no such store.
        UsageError: The address cannot be read.
    """
    home = make_home(home_folder())
    url = store or default_store_url(home)
    if url.startswith("tcp:"):
        quiet.import_torch("eflib.store.tcp", "FATAL")
    is_own = url == f"file://{store_folder(home)}"
    return Cluster(home, url, must_exist=not (is_new or is_own))


def _unreadable(job_id: str) -> Document:
    """Return what is shown of a job whose status document is not one, or is not signed."""
    reason = "its status document cannot be read: another version of eflib or a stranger wrote it"
    return facts_of(JobStatus(job=job_id, name=job_id, state=UNREADABLE, reason=reason))
