"""Every wait of the trainer: who waits, for what, how long in seconds, and what happens then."""

from __future__ import annotations

POLL = 0.02
"""The reporter's thread, between two looks at the store; then it looks again."""
REPORT = 0.5
"""Rank 0, between two progress documents."""
ADMISSION = 24 * 3600.0
"""A ready worker, for a generation that names it; then it ends with an error."""
PRESENT = 24 * 3600.0
"""A generation's members, for all to come to its start, unless an exit is on record; then one
without the missing follows. A member may be late: in a callback, or with a long step."""
CONNECT = 15.0
"""A member, for the TCP store of rank 0's agent; then recovery."""
GROUP = 60.0
"""A member, for the connections to all others once all are there; then recovery, as at once when an
exit is on record. Where a process's sockets are not listed (outside Linux) it is ``COLLECTIVE``."""
COLLECTIVE = 24 * 3600.0
"""A rank, for one collective operation; then a peer counts as lost: recovery. Late is not lost: a
peer that is gone closes its connections, or its exit is on record."""
FIXED_COLLECTIVE = 1800.0
"""The same in torchrun's world of fixed size, where nobody else finds a rank that hangs; then the
worker ends with an error."""
WATCH = 2.0
"""A rank whose step takes longer, between two looks whether its neighbour's exit is on record; then
it closes its connections, and recovery follows."""
END = 600.0
"""A rank that has ended training, for the others; then it ends all the same."""
RECOVERY = 60.0
"""A survivor, for news of who was lost or a newer generation; then it ends with an error."""
EVALUATE = 600.0
"""A rank that evaluates a sharded model, for all others to do so too; then an error says so."""
CHECKPOINT_PARTS = 300.0
"""Rank 0's writing thread, for the parts of the other ranks; then that checkpoint is given up."""
CHECKPOINT_WRITE = 600.0
"""Whoever asks for a checkpoint, for one to be written; then an error says so."""
CHECKPOINT_LEAVE = 20.0
"""A worker that leaves, for the checkpoint that it is writing; then it leaves it torn."""
