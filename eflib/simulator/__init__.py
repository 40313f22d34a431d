"""Replays traces of jobs through the scheduler that a live cluster runs, or another policy."""

from eflib.simulator.policies import ClusterShape, Decision, Moment, Policy, PolicyError
from eflib.simulator.report import JobOutcome, Result, Summary
from eflib.simulator.simulator import simulate
from eflib.simulator.trace import Trace, TraceJob, read_trace

__all__ = [
    "ClusterShape",
    "Decision",
    "JobOutcome",
    "Moment",
    "Policy",
    "PolicyError",
    "Result",
    "Summary",
    "Trace",
    "TraceJob",
    "read_trace",
    "simulate",
]
