"""What the nodes of a torchrun job write when they meet over an eflib store."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from eflib.messages.fields import Count, Label, Message, Port


class Participant(Message, frozen=True, kw_only=True):
    """A node's own words.

    Attributes:
        beat: One more each time; a count that stands still means that the node is gone.
        waiting: Whether it waits for a generation.
        host: Its machine's name.
        address: Where other nodes reach it.
    """

    beat: Count = 0
    waiting: bool = False
    host: Label = ""
    address: Label = ""


class Formed(Message, frozen=True):
    """A generation of nodes.

    Attributes:
        members: The nodes, in order of rank.
    """

    members: Annotated[tuple[Label, ...], Meta(max_length=65_536)]


class StoreAddress(Message, frozen=True):
    """Where the TCP store of a generation is.

    Attributes:
        host: Its host.
        port: Its port.
    """

    host: Label
    port: Port


class Closed(Message, frozen=True):
    """No further generation will be formed.

    Attributes:
        by: The node that said so.
    """

    by: Label = ""
