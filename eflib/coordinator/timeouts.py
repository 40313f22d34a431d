"""Every wait of the coordinator: who waits, for what, how long (seconds), and what follows."""

from __future__ import annotations

LOOP = 0.02
"""The coordinator, between two looks at its inbox while something is going on; then it looks."""
PROGRESS = 0.25
"""Between two looks at the progress of running jobs."""
FEED = 5.0
"""Between two reports of a job's progress to the scheduler when nothing else happens."""
HEARTBEAT_LOST = 15.0
"""An agent's counter, to change; then the node counts as lost and its GPUs are planned without."""
BEAT = 1.0
"""Between two beats of the coordinator's own record."""
JOINERS = 60.0
"""A new generation, for the last joiners once others are ready; then it goes on without them."""
HANDOVER = 5.0
"""A joiner's slot, for another job's leaver to be gone from it; then the joiner goes on."""
LEAVERS = 30.0
"""A leaver, to exit by itself after the switch; then its agent ends it."""
DISMISSED = 120.0
"""A dismissed worker's exit, to be reported; then the worker counts as gone."""
PROFILING = 120.0
"""A profiling run; then what was measured has to do. For half of it workers may still start."""
PROFILING_SHORT = 20.0
"""The same, where promises spare the slots for no longer; then the job asks for a longer loan."""
ASK_AGAIN = 2.0
"""A submitted job, for slots to be lent; then it asks again."""
MEASURING = 60.0
"""One world size in a profiling run; then the run ends with what was measured before."""
ENDED_KEPT = 60.0
"""An ended job whose workers have gone, in memory; then its document alone tells about it."""
IDLE = 10.0
"""A coordinator that eflaunch started, for work; then it ends, and its agent with it."""
FIRST_JOB = 90.0
"""The same, before its first job: an agent is being started meanwhile."""
LOCK = 1.0
"""A starting coordinator, for its home's lock; then another one runs there."""
PROBE = 0.05
"""Who looks whether a coordinator is alive, for the lock; then one is, and not a look like this."""
OUTAGE = 300.0
"""The coordinator, for a store that is out; then it ends, and jobs train on without it."""
RETRY = 0.5
"""The same, between two tries."""
REPLY = 20.0
"""A client, for the coordinator's answer; then it says that none came."""
OTHER = 5.0
"""A starting coordinator, for a beat of another one's record; then that one is taken for dead."""
START = 60.0
"""eflaunch, for a coordinator and an agent that it started; then it shows their log."""
"""The same bound holds for their end."""
