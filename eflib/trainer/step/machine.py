"""The states of a trainer within and between steps, and every legal move between them.

A step goes WAITING, COMPUTING (with LOSS_DUE or FORWARD while a micro-batch is out), REDUCING,
COMMITTED, and back to WAITING. It is taken again after RETRY (memory ran out) or RECOVER (a peer
was lost). FINISHED and LEFT are ends. ``TRANSITIONS`` is the whole of it.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from eflib.errors import InvalidTransitionError


class _Word(Enum):
    """A member is hashed by what it is: Enum hashes its name anew each time."""

    __hash__ = object.__hash__


class State(_Word):
    """Where a trainer stands; the value says it in words."""

    NEW = "training has not begun"
    OPENING = "the first generation is being entered"
    WAITING = "between two steps"
    COMPUTING = "in a step: the trainer loads a micro-batch or runs a backward pass"
    LOSS_DUE = "in a step: the script holds a micro-batch, and its loss is awaited"
    FORWARD = "in a step: the forward pass of fit(), which can be taken again"
    REDUCING = "the gradients and votes of all ranks are being summed"
    COMMITTED = "the optimizer step is done; callbacks run, and the votes are acted upon"
    RETRY = "memory ran out: the step is to be taken again with smaller micro-batches"
    RECOVER = "a peer was lost: a generation without it is being entered"
    SWITCHING = "another generation is being entered, in order"
    FINISHING = "the last step is done; all ranks meet before they part"
    FINISHED = "training is over"
    LEFT = "this worker has left its job"


class Event(_Word):
    """What happens to a trainer."""

    OPENED = "the script began to iterate"
    ENTERED = "a generation was entered"
    STEP_BEGUN = "a step was begun"
    BATCH_GIVEN = "a micro-batch went to the script"
    FORWARD_BEGUN = "fit() began the forward pass of a micro-batch"
    LOSS_TAKEN = "the loss of a micro-batch came"
    OUT_OF_MEMORY = "a forward or backward pass ran out of memory"
    PEER_LOST = "a collective failed: a peer is lost"
    ALL_TAKEN = "all micro-batches of the step were taken"
    DATA_ENDED = "the step had no samples on any rank"
    SUMMED = "the sum over all ranks came"
    SETTLED = "the votes of the step asked for nothing more"
    SWITCHED = "the votes asked for another generation"
    EVICTED = "the job goes on without this worker"
    RAN_OUT = "there is no further step"
    PARTED = "all ranks have committed the last step"
    SET_BACK = "a peer was lost at the end, and the state is that of an earlier step"
    ABANDONED = "the script left its loop in the middle of a step and began another"


_S, _E = State, Event

TRANSITIONS: Final[dict[tuple[State, Event], State]] = {
    (_S.NEW, _E.OPENED): _S.OPENING,
    (_S.OPENING, _E.ENTERED): _S.WAITING,
    (_S.OPENING, _E.EVICTED): _S.LEFT,
    # A step
    (_S.WAITING, _E.STEP_BEGUN): _S.COMPUTING,
    (_S.COMPUTING, _E.BATCH_GIVEN): _S.LOSS_DUE,
    (_S.LOSS_DUE, _E.FORWARD_BEGUN): _S.FORWARD,
    (_S.LOSS_DUE, _E.LOSS_TAKEN): _S.COMPUTING,
    (_S.FORWARD, _E.LOSS_TAKEN): _S.COMPUTING,
    (_S.COMPUTING, _E.ALL_TAKEN): _S.REDUCING,
    (_S.REDUCING, _E.SUMMED): _S.COMMITTED,
    (_S.REDUCING, _E.DATA_ENDED): _S.WAITING,
    (_S.COMMITTED, _E.SETTLED): _S.WAITING,
    # A step that is taken again in smaller micro-batches
    (_S.COMPUTING, _E.OUT_OF_MEMORY): _S.RETRY,
    (_S.LOSS_DUE, _E.OUT_OF_MEMORY): _S.RETRY,
    (_S.FORWARD, _E.OUT_OF_MEMORY): _S.RETRY,
    (_S.RETRY, _E.STEP_BEGUN): _S.COMPUTING,
    # Another generation; forward and backward passes talk to peers where the model is sharded
    (_S.COMPUTING, _E.PEER_LOST): _S.RECOVER,
    (_S.FORWARD, _E.PEER_LOST): _S.RECOVER,
    (_S.REDUCING, _E.PEER_LOST): _S.RECOVER,
    (_S.COMMITTED, _E.SWITCHED): _S.SWITCHING,
    (_S.RECOVER, _E.ENTERED): _S.WAITING,
    (_S.SWITCHING, _E.ENTERED): _S.WAITING,
    (_S.RECOVER, _E.EVICTED): _S.LEFT,
    (_S.SWITCHING, _E.EVICTED): _S.LEFT,
    # A sharded model in a forward pass of the script's own, which cannot be taken again
    (_S.WAITING, _E.EVICTED): _S.LEFT,
    (_S.LOSS_DUE, _E.EVICTED): _S.LEFT,
    (_S.COMMITTED, _E.EVICTED): _S.LEFT,
    # The end
    (_S.WAITING, _E.RAN_OUT): _S.FINISHING,
    (_S.FINISHING, _E.PARTED): _S.FINISHED,
    (_S.FINISHING, _E.SET_BACK): _S.WAITING,
    (_S.FINISHING, _E.EVICTED): _S.LEFT,
    # A script may leave its loop anywhere, by break or by an exception that it handles
    (_S.COMPUTING, _E.ABANDONED): _S.WAITING,
    (_S.LOSS_DUE, _E.ABANDONED): _S.WAITING,
    (_S.FORWARD, _E.ABANDONED): _S.WAITING,
    (_S.REDUCING, _E.ABANDONED): _S.WAITING,
    (_S.COMMITTED, _E.ABANDONED): _S.WAITING,
    (_S.RETRY, _E.ABANDONED): _S.WAITING,
    (_S.FINISHING, _E.ABANDONED): _S.WAITING,
}
ENDS: Final = frozenset({State.FINISHED, State.LEFT})


def following(state: State, event: Event) -> State:
    """Return the state after an event.

    Raises:
        InvalidTransitionError: The event is not possible in that state; the message names both.
    """
    found = TRANSITIONS.get((state, event))
    if found is None:
        raise InvalidTransitionError(
            f"the event {event.name} is not possible in the state {state.name}",
            detail=f"{state.name}: {state.value}\n{event.name}: {event.value}",
        )
    return found


class StepMachine:
    """Where one trainer stands; ``on`` is the only way to change it."""

    def __init__(self) -> None:
        self._state = State.NEW

    @property
    def state(self) -> State:
        """The state at the moment."""
        return self._state

    def can(self, event: Event) -> bool:
        """Tell whether an event is possible now."""
        return (self._state, event) in TRANSITIONS

    def on(self, event: Event) -> State:
        """Note an event, and return the state after it.

        Raises:
            InvalidTransitionError: It is not possible now; the state stays as it was.
        """
        found = TRANSITIONS.get((self._state, event))
        self._state = following(self._state, event) if found is None else found
        return self._state
