"""How a trainer enters and leaves the generations of its job."""

import pytest

from eflib.errors import UsageError
from eflib.trainer import generations
from eflib.trainer.elastic.session import Session
from tests.unit.trainer.builders import a_trainer


def test_a_second_trainer_in_a_job_is_refused_before_it_meets_anybody(monkeypatch):
    monkeypatch.setattr(Session, "elastic", True)
    monkeypatch.setattr(generations, "_first", [])
    first, second = a_trainer(max_steps=2), a_trainer()
    first.fit()
    for _ in range(2):
        with pytest.raises(UsageError, match="a second ElasticTrainer trains in one job") as caught:
            second.fit()
    assert "one job per training" in caught.value.hint
    first.fit()
    assert (first.global_step, second.global_step) == (2, 0)
