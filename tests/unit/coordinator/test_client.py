"""Asking the coordinator: an answer, a refusal, or nobody there."""

import pytest

from eflib.coordinator import client as module
from eflib.coordinator.client import Client, RefusedError
from eflib.errors import CoordinatorUnreachableError, UsageError
from eflib.messages.inbox import INBOX, Cancel, new_request
from eflib.messages.replies import Refusal, Reply
from eflib.store import keys


def a_cancel():
    return Cancel(request=new_request(), job="a")


class Answering:
    """Time for the client: it passes by sleeping, and a coordinator answers meanwhile."""

    def __init__(self):
        self.now, self.client, self.answer, self.requests = 0.0, None, None, []

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        for _, message in self.client.store.receive(keys.INBOX, len(self.requests), INBOX).messages:
            self.requests.append(message)
            if self.answer is not None:
                self.client.store.put(keys.reply(message.request), self.answer)


@pytest.fixture
def world(tmp_path, monkeypatch):
    world = Answering()
    monkeypatch.setattr(module, "time", world)
    world.client = Client(tmp_path, str(tmp_path / "store"))
    yield world
    world.client.close()


def test_an_answer_is_returned_and_taken_away(world):
    world.answer = Reply(job="a-1")
    asked = a_cancel()
    assert world.client.request(asked) == Reply(job="a-1")
    assert world.requests == [asked]
    assert world.client.store.list(keys.REPLIES) == []


def test_without_an_answer_it_says_who_is_missing_and_how_to_start_it(world):
    with pytest.raises(CoordinatorUnreachableError, match="answered within 3 s over") as caught:
        world.client.request(a_cancel(), timeout=3.0)
    assert caught.value.hint == "start one with: efctl coordinator"
    assert 3.0 <= world.now < 3.2


@pytest.mark.parametrize(
    ("code", "kind"), [("usage", UsageError), ("rescale-refused", RefusedError)]
)
def test_a_refusal_is_raised_in_its_own_words(world, code, kind):
    world.answer = Reply(error=Refusal(code, "no such job", "look"))
    with pytest.raises(kind, match="no such job") as caught:
        world.client.request(a_cancel())
    assert caught.value.hint == "look"


@pytest.mark.parametrize("stops", [True, False])
def test_release_tells_whether_the_coordinator_ends(world, stops):
    world.answer = Reply(stops=stops)
    assert world.client.release() is stops
