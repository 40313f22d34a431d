"""Every bound and every period of the agent, with who waits and what happens when it passes.

| name | who waits for what | when it passes |
|---|---|---|
| ``POLL_SECONDS`` | the agent, between two looks at its assignment | it looks again |
| ``HEARTBEAT_SECONDS`` | the agent, between two heartbeats | it counts on |
| ``CHECK_SECONDS`` | the agent, between two looks at helpers and coordinator | it looks again |
| ``RETRY_SECONDS`` | the agent, after the store failed, or as long as it took to | it tries again |
| ``GRACE_SECONDS`` | the agent, for a worker that it told to leave | the worker is killed |
| ``SILENCE_SECONDS`` | the agent, for a sign of life of a worker | it hangs: it is killed |
| ``KILL_AGAIN_SECONDS`` | the agent, for a worker that it killed | it kills again, and warns |
| ``WARM_SECONDS`` | a worker's start, for the warm pool | the pool is made anew |
| ``PROBE_SECONDS`` | the agent's start, for the list of GPUs | the start fails, and says so |
| ``LINGER_SECONDS`` | a managed agent without workers, for its coordinator | the agent ends |
| ``ABSENCE_SECONDS`` | an agent, between two of its own beats in the store | it joins again |
| ``SWEEP_SECONDS`` | the guardian, for killed processes to be gone | it gives up and names them |
| ``SNAPSHOT_SECONDS`` | the guardian, between two looks at the agent's family | it looks again |
"""

from __future__ import annotations

POLL_SECONDS = 0.025
HEARTBEAT_SECONDS = 1.0
CHECK_SECONDS = 1.0
RETRY_SECONDS = 0.2
GRACE_SECONDS = 30.0
SILENCE_SECONDS = 10.0
KILL_AGAIN_SECONDS = 5.0
WARM_SECONDS = 120.0
PROBE_SECONDS = 180.0
LINGER_SECONDS = 60.0
ABSENCE_SECONDS = 10.0
SWEEP_SECONDS = 30.0
SNAPSHOT_SECONDS = 2.0
