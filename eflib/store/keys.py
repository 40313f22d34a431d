"""How every key is spelled; nobody else writes one out.

What each key holds, and who writes it, is the table in ``docs/architecture.md``.
"""

from __future__ import annotations

from eflib.errors import UsageError

INBOX = "coordinator/inbox"
"""The stream of requests and reports to the coordinator."""
COORDINATOR = "coordinator/record"
JOB_INDEX = "coordinator/jobs"
"""Which jobs there are: so that nobody has to look at every job that ever was."""
NODES = "nodes/"
JOBS = "jobs/"
REPLIES = "replies/"

_DIGITS = 8  # so that generations sort by number when they sort by name


def reply(request: str) -> str:
    """Return where the answer to a request stands."""
    return f"{REPLIES}{_part(request)}"


def node_record(node: str) -> str:
    """Return where a node describes itself."""
    return f"{NODES}{_part(node)}/record"


def node_heartbeat(node: str) -> str:
    """Return where an agent counts."""
    return f"{NODES}{_part(node)}/heartbeat"


def node_assignment(node: str) -> str:
    """Return where a node finds the workers that it should run."""
    return f"{NODES}{_part(node)}/assignment"


def job(job_id: str) -> str:
    """Return the prefix of all keys of a job."""
    return f"{JOBS}{_part(job_id)}/"


def job_spec(job_id: str) -> str:
    """Return where a job's script, arguments and environment stand."""
    return f"{job(job_id)}spec"


def job_status(job_id: str) -> str:
    """Return where the document stands that ``efctl status`` prints."""
    return f"{job(job_id)}status"


def job_progress(job_id: str) -> str:
    """Return where rank 0 reports."""
    return f"{job(job_id)}progress"


def generations(job_id: str) -> str:
    """Return the prefix of a job's generation records; listed, they come in order."""
    return f"{job(job_id)}generations/"


def generation(job_id: str, number: int) -> str:
    """Return where the membership with this number stands."""
    return f"{generations(job_id)}{number:0{_DIGITS}d}"


def exits(job_id: str) -> str:
    """Return the prefix of a job's exit records."""
    return f"{job(job_id)}exits/"


def worker_exit(job_id: str, worker: str) -> str:
    """Return where an agent says how a worker ended."""
    return f"{exits(job_id)}{_part(worker)}"


def last_part(key: str) -> str:
    """Return the name at the end of a key: a generation's number, a worker, a request."""
    return key.rpartition("/")[2]


def owner(key: str) -> str:
    """Return the node or job that a key below ``nodes/`` or ``jobs/`` belongs to."""
    return key.split("/")[1]


def _part(name: str) -> str:
    if not name or "/" in name:
        raise UsageError(f"a name in the store must be non-empty and without '/', not {name!r}")
    return name
