"""ElasticFlow without admission control, an ablation of the paper: every deadline is a wish."""

from __future__ import annotations

from dataclasses import replace

from eflib.scheduling import SchedulerSettings
from eflib.simulator.policies import ClusterShape, Policy
from eflib.simulator.policies.elasticflow import ElasticFlow

NAME = "elasticflow-no-admission"
SUMMARY = "elasticflow that admits every job and promises nothing"


def make(shape: ClusterShape, settings: SchedulerSettings) -> Policy:
    """Return the policy; see ``eflib.simulator.policies``."""
    return ElasticFlow(shape, replace(settings, admission=False))
