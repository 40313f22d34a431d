"""What the paper's models promise beside their shapes."""

import pytest
import torch
from torch.nn import functional

from eflib.models import GPT2, VGG, Bert, build
from tests.unit.models.sizes import SMALL


@torch.no_grad()
def test_letters_of_an_utterance_do_not_depend_on_its_padding():
    torch.manual_seed(0)
    model = build("deepspeech2", **SMALL["deepspeech2"]).eval()
    sounds = torch.randn(2, 33, 40)
    lengths = torch.tensor([40, 21])

    together, counts = model(sounds, lengths)
    alone, _ = model(sounds[1:, :, :21], lengths[1:])

    assert counts.tolist() == [20, 11]
    torch.testing.assert_close(together[1:, :11], alone)


def test_statistics_of_the_recurrent_layers_leave_padding_out():
    torch.manual_seed(0)
    model = build("deepspeech2", **SMALL["deepspeech2"])
    sounds, lengths = torch.randn(2, 33, 40), torch.tensor([40, 21])
    noise = sounds.clone()
    noise[1, :, 21:] += 100.0
    seen = []
    for inputs in (sounds, noise):
        model.norm.reset_running_stats()
        model(inputs, lengths)
        seen.append(model.norm.running_mean.clone())

    torch.testing.assert_close(seen[0], seen[1])


def test_an_utterance_too_short_for_its_letters_counts_as_nothing():
    model = build("deepspeech2", **SMALL["deepspeech2"])
    scores = torch.randn(1, 2, 29).log_softmax(-1).requires_grad_()

    loss = model.loss((scores, torch.tensor([2])), (torch.tensor([[3, 4, 5]]), torch.tensor([3])))
    loss.backward()

    assert loss.item() == 0.0
    assert torch.equal(scores.grad, torch.zeros_like(scores))


def test_the_auxiliary_head_of_inception_counts_two_fifths_and_in_training_alone():
    torch.manual_seed(0)
    model = build("inception3", **SMALL["inception3"])
    images, classes = model.example(2)

    outputs = model(images)
    main, auxiliary = (functional.cross_entropy(scores, classes) for scores in outputs)
    assert model.loss(outputs, classes).item() == pytest.approx((main + 0.4 * auxiliary).item())

    scores = model.eval()(images)
    assert model.loss(scores, classes) == functional.cross_entropy(scores, classes)


def test_masked_words_alone_count_and_each_text_has_one():
    model = build("bert", **SMALL["bert"])
    tokens, targets = model.example(50, torch.Generator().manual_seed(0))
    masked = targets != -100
    scores = torch.zeros(50, 8, 50)

    total, count = model.loss(scores, targets)

    assert torch.equal(tokens == 0, masked)
    assert masked.any(dim=1).all()
    assert count == masked.sum()
    assert total.item() == pytest.approx(count.item() * torch.tensor(50.0).log().item())


@pytest.mark.parametrize("model", [GPT2, Bert])
def test_a_width_that_heads_cannot_share_is_refused(model):
    with pytest.raises(ValueError, match="width 10 is no multiple of the number of heads, 4"):
        model(width=10, num_heads=4)


def test_examples_longer_than_the_context_are_refused():
    with pytest.raises(ValueError, match="example_length 128 is beyond the context, 64"):
        Bert(context=64)


@pytest.mark.parametrize("side", [0, 31, 100])
def test_images_that_cannot_be_halved_five_times_are_refused(side):
    with pytest.raises(ValueError, match=f"image_side {side} is no multiple of 32"):
        VGG(image_side=side)
