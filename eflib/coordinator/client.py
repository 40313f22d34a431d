"""Asking the coordinator: a request into its inbox, and a bounded wait for the answer."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from eflib.coordinator import timeouts
from eflib.errors import CoordinatorUnreachableError, EflibError, UsageError
from eflib.home import key_file
from eflib.messages.inbox import Release, new_request
from eflib.messages.replies import Reply
from eflib.store import keys, open_store
from eflib.store.patient import PatientStore
from eflib.store.secret import load_or_create_key
from eflib.store.signed import SignedStore

if TYPE_CHECKING:
    from pathlib import Path

    from eflib.messages.inbox import RequestMessage


class RefusedError(EflibError):
    """The coordinator has answered that it will not."""

    code = "refused"
    exit_status = 1


class Client:
    """Talks to the coordinator of a store.

    Args:
        home: The folder of eflib's state: the cluster's key lies there.
        store_url: Where the store is.
    """

    def __init__(self, home: Path, store_url: str) -> None:
        store = PatientStore(open_store(store_url))
        self.store = SignedStore(store, load_or_create_key(key_file(home)))
        self._url = store_url

    def request(self, message: RequestMessage, *, timeout: float = timeouts.REPLY) -> Reply:
        """Send a request and return the answer.

        Args:
            message: The request; its id must be a new one, as ``new_request`` makes it.
            timeout: Longest wait for the answer, in seconds.

        Raises:
            CoordinatorUnreachableError: No answer came in time.
            UsageError: The coordinator, or we before it, found a value wrong.
            RefusedError: It will not do it; the message says why.
        """
        self.store.post(keys.INBOX, message)
        end = time.monotonic() + timeout
        pause = 0.005
        while (answer := self.store.fetch(keys.reply(message.request), Reply)) is None:
            if time.monotonic() > end:
                raise CoordinatorUnreachableError(
                    f"no coordinator answered within {timeout:g} s over {self._url}",
                    hint="start one with: efctl coordinator",
                )
            time.sleep(pause)
            pause = min(pause * 1.3, 0.05)
        self.store.delete(keys.reply(message.request))
        error = answer.error
        if error is not None:
            kind_of = UsageError if error.code == "usage" else RefusedError
            raise kind_of(error.problem, hint=error.hint)
        return answer

    def release(self) -> bool:
        """Tell a coordinator that eflaunch started that it may end if it is idle.

        Returns:
            Whether it will end now.
        """
        return self.request(Release(request=new_request())).stops

    def close(self) -> None:
        """Close the store."""
        self.store.close()
