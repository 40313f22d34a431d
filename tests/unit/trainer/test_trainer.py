"""ElasticTrainer under plain python: one worker, and the same promises."""

import json

import pytest
import torch

from eflib.errors import PreemptedError
from eflib.messages.generations import PROFILE, Generation, Member
from eflib.trainer.audit import SampleAudit, read_audit
from eflib.trainer.callback import Callback
from eflib.trainer.data.position import DataPlan
from eflib.trainer.elastic.conductor import LeftError
from eflib.trainer.elastic.session import Session
from tests.unit.trainer.builders import (
    Noisy,
    Points,
    Recorder,
    a_model,
    a_trainer,
    are_equal,
    weights,
)

mse = torch.nn.functional.mse_loss


def run_loop(trainer, before_step=lambda: None):
    for inputs, targets in trainer:
        loss = mse(trainer.model(inputs), targets)
        before_step()
        trainer.step(loss)


def fitted(**settings):
    trainer = a_trainer(**settings)
    trainer.fit()
    return trainer


def test_fit_and_the_loop_form_give_the_same_bits():
    loop = a_trainer()
    run_loop(loop)
    assert loop.global_step == 12
    assert are_equal(weights(loop), weights(fitted()))


def test_training_learns():
    recorder = Recorder()
    fitted(max_steps=60, callbacks=[recorder])
    assert sum(recorder.losses[-5:]) < 0.3 * sum(recorder.losses[:5])


def test_training_is_that_of_a_plain_loop_over_the_same_batches():
    model = a_model()
    model[2].p = 0.0
    trainer = fitted(model=model)
    plain = a_model()
    plain[2].p = 0.0
    optimizer = torch.optim.Adam(plain.parameters(), lr=0.05)
    plan, points = DataPlan(22, 4), Points()
    for step in range(12):
        places = plan.indices(plan.batch(step)).tolist()
        optimizer.zero_grad()
        mse(plain(points.x[places]), points.y[places]).backward()
        optimizer.step()
    for one, other in zip(weights(trainer), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("end", "steps"), [("carry", 11), ("short", 12), ("drop", 10)])
def test_max_epochs_ends_after_the_last_epoch(end, steps):
    recorder = Recorder()
    trainer = fitted(max_epochs=2, epoch_end=end, callbacks=[recorder])
    assert trainer.global_step == trainer.max_steps == steps
    assert trainer.epoch == 1 if end == "carry" else trainer.epoch >= 1
    assert len(recorder.samples) == steps
    seen = [sample for step in recorder.samples for sample in step]
    assert len(seen) == len(set(seen)) == (40 if end == "drop" else 44)


def test_epoch_and_step_can_be_read_in_the_loss_function():
    read = []

    def loss_fn(outputs, targets):
        read.append((trainer.global_step, trainer.epoch))
        return mse(outputs, targets)

    trainer = a_trainer(max_steps=7, loss_fn=loss_fn)
    trainer.fit()
    # The sixth step has the last two samples of one epoch and the first two of the next.
    assert read == [(0, 0), (1, 0), (2, 0), (3, 0), (4, 0), (5, 0), (6, 1)]


@pytest.mark.parametrize("size", [1, 3, 5])
def test_microbatches_give_the_step_of_the_whole_batch(size):
    models = [a_model(), a_model()]
    for model in models:
        model[2].p = 0.0
    whole = fitted(model=models[0], global_batch_size=7)
    cut = fitted(model=models[1], global_batch_size=7, max_microbatch_size=size)
    for one, other in zip(weights(whole), weights(cut), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)
    assert whole.loss == pytest.approx(cut.loss)


@pytest.mark.parametrize("to_none", [True, False])
def test_zero_grad_in_the_loop_takes_nothing_from_a_step_of_several_microbatches(to_none):
    plain = a_trainer(max_microbatch_size=1)
    run_loop(plain)
    habit = a_trainer(max_microbatch_size=1)
    run_loop(habit, before_step=lambda: habit.optimizer.zero_grad(set_to_none=to_none))
    assert are_equal(weights(plain), weights(habit))


def test_step_tells_whether_the_optimizer_step_is_done():
    trainer = a_trainer(global_batch_size=4, max_microbatch_size=1, max_steps=3)
    told = [
        (trainer.step(mse(trainer.model(inputs), targets)), trainer.global_step)
        for inputs, targets in trainer
    ]
    assert told == [(turn == 3, step + (turn == 3)) for step in range(3) for turn in range(4)]


def test_a_loss_as_sum_and_count_weighs_each_token_alike():
    def summed(outputs, targets):
        return (outputs - targets).square().sum(), targets.numel()

    models = [a_model(), a_model()]
    for model in models:
        model[2].p = 0.0
    mean = fitted(model=models[0], global_batch_size=7)
    recorder = Recorder()
    settings = {"loss_fn": summed, "max_microbatch_size": 2, "callbacks": [recorder]}
    sums = fitted(model=models[1], global_batch_size=7, **settings)
    for one, other in zip(weights(mean), weights(sums), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)  # the count travels as float32
    assert sums.loss == pytest.approx(mean.loss, rel=1e-5)


def test_the_scheduler_steps_once_a_global_step():
    model = a_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    recorder = Recorder()
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.5)
    settings = {"lr_scheduler": schedule, "max_microbatch_size": 1, "callbacks": [recorder]}
    a_trainer(model, optimizer=optimizer, max_steps=5, **settings).fit()
    assert recorder.rates == [1.0, 0.5, 0.5, 0.25, 0.25]


def test_stop_ends_after_the_step_at_hand():
    trainer = a_trainer()
    run_loop(trainer, before_step=lambda: trainer.stop() if trainer.global_step == 3 else None)
    assert trainer.global_step == 4


def measuring(monkeypatch, **settings):
    """Return a trainer in a profiling run."""
    monkeypatch.setattr(Session, "mode", PROFILE)
    return a_trainer(**settings)


def test_stop_does_not_end_a_profiling_run(monkeypatch):
    trainer = measuring(monkeypatch)
    for inputs, targets in trainer:
        trainer.stop()
        trainer.step(mse(trainer.model(inputs), targets))
        if trainer.global_step == 20:  # past max_steps: the profiler says when it is enough
            break
    assert trainer.global_step == 20


def test_a_profiling_run_saves_nothing_even_when_the_script_asks(monkeypatch, tmp_path):
    trainer = measuring(monkeypatch, checkpoint_dir=tmp_path, checkpoint_seconds=0)
    for inputs, targets in trainer:
        trainer.step(mse(trainer.model(inputs), targets))
        if trainer.global_step == 3:
            break

    assert trainer.save_checkpoint() is None
    assert list(tmp_path.iterdir()) == []


def test_a_loop_after_the_end_has_no_step_and_ends_nothing_twice():
    recorder = Recorder()
    trainer = fitted(max_steps=2, callbacks=[recorder])
    trainer.fit()
    assert recorder.events == ["step 1", "step 2", "end"]


@pytest.mark.parametrize("size", [None, 1])
def test_a_loop_that_was_left_in_mid_step_takes_that_step_anew(size):
    whole = fitted(max_microbatch_size=size)
    trainer = a_trainer(max_microbatch_size=size)
    for inputs, targets in trainer:
        if trainer.global_step == 3:
            trainer.step(mse(trainer.model(inputs), targets)) if size else None
            break
        trainer.step(mse(trainer.model(inputs), targets))
    run_loop(trainer)
    assert are_equal(weights(whole), weights(trainer))


def test_an_error_in_a_callback_that_the_script_handles_costs_no_step():
    class Failing(Callback):
        def on_step_end(self, trainer):
            if trainer.global_step == 3:
                raise ValueError("once")

    trainer = a_trainer(callbacks=[Failing()])
    with pytest.raises(ValueError, match="once"):
        trainer.fit()
    trainer.fit()
    assert are_equal(weights(fitted()), weights(trainer))


def test_callbacks_are_called_at_their_points():
    recorder = Recorder()
    fitted(max_steps=2, callbacks=[recorder])
    assert recorder.events == ["step 1", "step 2", "end"]


def test_the_audit_names_each_sample_once_an_epoch(tmp_path):
    fitted(max_epochs=2, callbacks=[SampleAudit(tmp_path / "audit")])
    lines = sorted(read_audit(tmp_path / "audit"), key=lambda line: line["step"])
    assert [line["step"] for line in lines] == list(range(11))
    assert [len(line["samples"]) for line in lines] == [4] * 11
    seen = [tuple(sample) for line in lines for sample in line["samples"]]
    assert sorted(seen) == [(epoch, index) for epoch in (0, 1) for index in range(22)]
    assert {(line["rank"], line["world_size"], line["generation"]) for line in lines} == {(0, 1, 0)}
    assert json.dumps(lines)


@pytest.mark.parametrize(
    ("precision", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_lower_precision_trains_float32_weights(precision, dtype):
    data = Points(dtype=torch.float32)
    dtypes = []

    def loss_fn(outputs, targets):
        dtypes.append(outputs.dtype)
        return mse(outputs.float(), targets)

    settings = {"dataset": data, "precision": precision, "loss_fn": loss_fn}
    trainer = fitted(model=a_model(dtype=torch.float32), **settings)
    assert set(dtypes) == {dtype}
    assert all(one.dtype == torch.float32 and one.isfinite().all() for one in weights(trainer))


def test_the_gradient_norm_is_clipped():
    model = a_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    before = [one.detach().clone() for one in model.parameters()]
    a_trainer(model, optimizer=optimizer, max_steps=1, max_grad_norm=1e-3).fit()
    moved = [(one - old).square().sum() for one, old in zip(weights_of(model), before, strict=True)]
    assert float(sum(moved)) ** 0.5 == pytest.approx(1e-3, rel=1e-3)


def weights_of(model):
    return [one.detach() for one in model.parameters()]


def test_batches_come_as_the_collate_function_makes_them():
    model = a_model()

    def collate(samples):
        return {"input": torch.stack([x for x, _ in samples])}, torch.stack([y for _, y in samples])

    other = fitted(model=model, collate_fn=collate)
    assert are_equal(weights(other), weights(fitted()))


@pytest.mark.parametrize("dataset", [Points(), Noisy()], ids=["plain", "augmented"])
def test_a_data_loader_process_gives_the_batches_of_none(dataset):
    batches = []
    for num_workers in (0, 1):
        held = []
        trainer = a_trainer(dataset=dataset, num_workers=num_workers, max_steps=7)
        for inputs, targets in trainer:
            held.append(inputs.clone())
            trainer.step(mse(trainer.model(inputs), targets))
        batches.append(torch.cat(held))
    assert torch.equal(*batches)


def test_random_numbers_of_a_step_do_not_depend_on_what_was_drawn_before():
    trainers = [a_trainer(dataset=Noisy()), a_trainer(dataset=Noisy())]
    run_loop(trainers[0])
    run_loop(trainers[1], before_step=lambda: torch.rand(5))
    assert are_equal(*(weights(one) for one in trainers))


class Averager(Callback):
    """Keeps the average of the weights, as scripts do."""

    def __init__(self, average):
        self.average = average

    def on_step_end(self, trainer):
        self.average.update_parameters(trainer.model)


def with_everything(folder, max_steps, **settings):
    """Train with all that has a state: scaler, schedule, average, BatchNorm, dropout."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(3, 5), torch.nn.BatchNorm1d(5), torch.nn.Dropout(0.2), torch.nn.Linear(5, 1)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    average = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9), use_buffers=True
    )
    trainer = a_trainer(
        model,
        optimizer=optimizer,
        dataset=Points(dtype=torch.float32),
        max_steps=max_steps,
        lr_scheduler=torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 12),
        precision="fp16",
        max_grad_norm=0.5,
        callbacks=[Averager(average)],
        checkpoint_dir=folder,
        **settings,
    )
    trainer.register("average", average)
    trainer.fit()
    return trainer, average


@pytest.mark.parametrize("deterministic", [False, True])
def test_all_that_has_a_state_goes_on_from_a_checkpoint_to_the_bit(tmp_path, deterministic):
    settings = {"deterministic": deterministic, "num_shards": 2}
    whole, average = with_everything(tmp_path / "whole", 12, **settings)
    first, _ = with_everything(tmp_path / "parts", 7, **settings)
    first.save_checkpoint()
    second, resumed = with_everything(tmp_path / "parts", 12, **settings)
    assert whole.loss == second.loss
    for one, other in ((whole.model, second.model), (average, resumed)):
        for name, tensor in one.state_dict().items():
            assert torch.equal(tensor, other.state_dict()[name]), name
    assert whole.optimizer.param_groups[0]["lr"] == second.optimizer.param_groups[0]["lr"]


@pytest.mark.parametrize("deterministic", [False, True])
def test_a_compiled_model_trains_like_the_plain_one(deterministic):
    plain = fitted(deterministic=deterministic)
    model = a_model()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    compiled = torch.compile(model, backend="eager")
    a_trainer(compiled, optimizer=optimizer, deterministic=deterministic).fit()
    assert are_equal(weights(plain), weights_of(model))


def test_seeds_give_other_orders_and_other_noise():
    assert not are_equal(weights(fitted(seed=1)), weights(fitted(seed=2)))


def test_facts_before_and_outside_a_cluster():
    trainer = a_trainer()
    facts = (trainer.rank, trainer.world_size, trainer.generation, trainer.global_step)
    assert facts == (0, 1, 0, 0)
    assert (trainer.profiling, trainer.epoch, trainer.global_batch_size) == (False, 0, 4)


@pytest.mark.parametrize(
    ("action", "status"), [("train", 0), ("pause", PreemptedError.exit_status)]
)
def test_a_joiner_that_a_newer_generation_is_without_leaves_quietly_and_saves_nothing(
    tmp_path, monkeypatch, action, status
):
    trainer = a_trainer(checkpoint_dir=str(tmp_path))
    members = (Member("w1", "n0", 0),) if action == "train" else ()
    newer = Generation(number=2, members=members, action=action, made_by="w1")

    def without_us(*args, **kwargs):
        raise LeftError(newer)

    closed = []
    monkeypatch.setattr(trainer._parts.session, "open", without_us)
    monkeypatch.setattr(trainer._parts.session, "close", lambda: closed.append(True))
    with pytest.raises(SystemExit) as end:
        next(iter(trainer))
    assert (end.value.code, closed) == (status, [True])
    assert list(tmp_path.glob("*step-*")) == []
