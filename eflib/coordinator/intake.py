"""What an inbox message must have before it is journaled: nothing half-read reaches the plane."""

from __future__ import annotations

from typing import Any

_JOB_REQUEST = ("request", "name", "cwd", "env", "argv")
REQUIRED: dict[str, tuple[str, ...]] = {
    "submit": _JOB_REQUEST,
    "profile": _JOB_REQUEST,
    "cancel": ("request", "job"),
    "rescale": ("request", "job"),
    "release": ("request",),
    "node_joined": ("node",),
    "node_left": ("node",),
    "worker_started": ("job", "worker"),
    "worker_ready": ("job", "worker", "announce"),
    "worker_exited": ("job", "worker"),
    "switched": ("job", "generation", "step", "from", "to", "pause_s"),
    "measured": ("job", "generation", "world_size", "steps_per_s", "spread"),
    "finished": ("job", "generation", "step"),
}
"""The fields of each type, as in ``docs/architecture.md``."""


def complaint(message: dict[str, Any]) -> str:
    """Return what is wrong with a message from the inbox; empty if nothing is.

    Examples:
        >>> complaint({"type": "cancel", "request": "r"})
        'cancel without job'
        >>> complaint({"type": "dance"})
        "unknown type 'dance'"
    """
    kind = message.get("type")
    if kind not in REQUIRED:
        return f"unknown type {kind!r}"
    missing = [name for name in REQUIRED[kind] if name not in message]
    return f"{kind} without {', '.join(missing)}" if missing else ""
