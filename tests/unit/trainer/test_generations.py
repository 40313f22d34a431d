"""How a trainer leaves its job, and what it does when a peer is lost at the very end."""

import pytest

from eflib.errors import PreemptedError
from eflib.messages.generations import Generation, Member
from eflib.trainer.elastic.conductor import LeftError
from eflib.trainer.elastic.session import Session
from tests.unit.trainer.builders import Recorder, a_trainer

OTHERS = Generation(number=2, members=(Member("w1", "n0", 0),), action="train", made_by="w1")
PAUSED = Generation(number=2, members=(), action="pause", made_by="w1")


def test_a_worker_that_is_not_needed_any_more_when_it_ends_leaves_in_order(monkeypatch):
    trainer = a_trainer(max_steps=2)

    def left():
        raise LeftError(OTHERS)

    monkeypatch.setattr(trainer._parts.session, "finish", left)
    with pytest.raises(SystemExit) as end:
        trainer.fit()
    assert end.value.code == 0
    assert trainer.global_step == 2


def test_steps_that_were_lost_with_a_peer_at_the_end_are_taken_again(monkeypatch):
    recorder = Recorder()
    trainer = a_trainer(max_steps=5, callbacks=[recorder])
    real, calls = trainer._parts.session.finish, []

    def set_back_once():
        calls.append(trainer.global_step)
        if len(calls) == 1:
            trainer._parts.state.global_step = 3
            return False
        return real()

    monkeypatch.setattr(trainer._parts.session, "finish", set_back_once)
    trainer.fit()
    assert calls == [5, 5]
    assert recorder.events[5:] == ["end", "step 4", "step 5", "end"]


def test_a_job_that_is_paused_while_its_disk_is_full_leaves_all_the_same(
    monkeypatch, tmp_path, capsys
):
    (tmp_path / "file").write_text("")
    trainer = a_trainer(checkpoint_dir=tmp_path / "file")

    def paused(*args, **kwargs):
        raise LeftError(PAUSED)

    monkeypatch.setattr(Session, "has_state", True)
    monkeypatch.setattr(trainer._parts.session, "open", paused)
    monkeypatch.setattr(trainer._parts.session, "close", lambda: None)
    with pytest.raises(SystemExit) as end:
        trainer.fit()
    assert end.value.code == PreemptedError.exit_status
    said = capsys.readouterr().err
    assert "could not be written" in said
    assert "the job will come back from an older one" in said
