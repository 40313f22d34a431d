"""The policy: pure functions and values that say which job holds which GPUs, and when.

``Scheduler.handle(event, now)`` is all a host needs: it takes an event, and returns commands.
"""

from eflib.scheduling.commands import (
    Admitted,
    Assigned,
    Command,
    PinRefused,
    ProfilingDenied,
    ProfilingExpired,
    ProfilingGranted,
    PromiseBroken,
    Rejected,
)
from eflib.scheduling.events import (
    CurveMeasured,
    Event,
    Gpu,
    JobEnded,
    JobProgressed,
    JobRequest,
    JobSubmitted,
    NodeJoined,
    NodeLost,
    ProfilingEnded,
    ProfilingRequested,
    SizePinned,
    TimePassed,
)
from eflib.scheduling.jobs import JobState, JobView
from eflib.scheduling.scaling import ScalingCurve
from eflib.scheduling.scheduler import Scheduler
from eflib.scheduling.settings import SchedulerSettings
from eflib.scheduling.state import SchedulerState

__all__ = [
    "Admitted",
    "Assigned",
    "Command",
    "CurveMeasured",
    "Event",
    "Gpu",
    "JobEnded",
    "JobProgressed",
    "JobRequest",
    "JobState",
    "JobSubmitted",
    "JobView",
    "NodeJoined",
    "NodeLost",
    "PinRefused",
    "ProfilingDenied",
    "ProfilingEnded",
    "ProfilingExpired",
    "ProfilingGranted",
    "ProfilingRequested",
    "PromiseBroken",
    "Rejected",
    "ScalingCurve",
    "Scheduler",
    "SchedulerSettings",
    "SchedulerState",
    "SizePinned",
    "TimePassed",
]
