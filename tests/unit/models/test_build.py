import pytest
import torch

from eflib.models import NAMES, Samples, build
from tests.unit.models.sizes import SMALL

# Of the published models; the sources are named in each model's file.
PUBLISHED = {
    "bert": 109_482_240,
    "gpt2": 124_439_808,
    "inception3": 27_161_264,
    "resnet50": 25_557_032,
    "vgg16": 138_357_544,
}
OUTPUT_SHAPES = {
    "bert": (3, 8, 50),
    "bert_classifier": (3, 2),
    "char_gpt": (3, 8, 20),
    "deepspeech2": (3, 20, 29),
    "digits": (3, 10),
    "gpt2": (3, 8, 50),
    "inception3": (3, 5),
    "resnet50": (3, 5),
    "vgg16": (3, 5),
}


def small(name):
    torch.manual_seed(0)
    return build(name, **SMALL[name])


def example(model, batch_size=3):
    return model.example(batch_size, torch.Generator().manual_seed(1))


def call(model, inputs):
    return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


def mean_loss(model, inputs, targets):
    loss = model.loss(call(model, inputs), targets)
    return loss[0] / loss[1] if isinstance(loss, tuple) else loss


@pytest.mark.parametrize(("name", "count"), PUBLISHED.items())
def test_the_models_of_the_paper_have_as_many_parameters_as_published(name, count):
    with torch.device("meta"):
        model = build(name)

    assert sum(parameter.numel() for parameter in model.parameters()) == count


def test_deepspeech2_has_the_parameters_of_its_layers():
    with torch.device("meta"):
        model = build("deepspeech2")
    convolutions = 32 * 41 * 11 + 32 * 32 * 21 * 11 + 4 * 32
    first, other = (2 * (3 * 800 * (of + 800) + 6 * 800) + 2 * of for of in (32 * 41, 800))

    count = sum(parameter.numel() for parameter in model.parameters())

    assert count == convolutions + first + 4 * other + 2 * 800 + 800 * 29


@pytest.mark.parametrize("name", NAMES)
def test_every_model_gives_outputs_of_the_stated_shape(name):
    model = small(name).eval()
    outputs = call(model, example(model)[0])
    if name == "deepspeech2":
        outputs, lengths = outputs
        assert outputs.shape[1] == lengths.max() <= OUTPUT_SHAPES[name][1]
        assert (outputs.shape[0], outputs.shape[2]) == (3, 29)
    else:
        assert tuple(outputs.shape) == OUTPUT_SHAPES[name]


@pytest.mark.parametrize("name", NAMES)
def test_one_step_of_training_lowers_the_loss(name):
    model = small(name)
    inputs, targets = example(model, batch_size=4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    before = mean_loss(model, inputs, targets)
    before.backward()
    optimizer.step()

    assert mean_loss(model, inputs, targets).item() < before.item()


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_is_trained(name):
    model = small(name)
    mean_loss(model, *example(model)).backward()

    idle = {key for key, parameter in model.named_parameters() if parameter.grad is None}
    assert idle == ({"pooler.weight", "pooler.bias"} if name == "bert" else set())


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_builds_the_same_weights(name):
    states = [small(name).state_dict() for _ in range(2)]

    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


@pytest.mark.parametrize("name", NAMES)
def test_samples_are_the_same_at_each_visit_and_make_batches(name):
    model = small(name)
    samples = Samples(model, 5, seed=2)
    once, again = (
        torch.utils.data.default_collate([samples[index] for index in range(len(samples))])
        for _ in range(2)
    )

    assert mean_loss(model.eval(), *map(_tuples, once)) == mean_loss(model, *map(_tuples, again))
    other = torch.utils.data.default_collate([Samples(model, 5, seed=3)[i] for i in range(5)])
    assert mean_loss(model, *map(_tuples, once)) != mean_loss(model, *map(_tuples, other))


def _tuples(part):
    """Return what a data loader makes of a tuple as a tuple again: it gives lists."""
    return tuple(part) if isinstance(part, list) else part


def test_there_is_no_sample_beyond_the_last():
    samples = Samples(small("digits"), 2)

    with pytest.raises(IndexError):
        samples[2]


def test_a_data_set_without_samples_is_refused():
    with pytest.raises(ValueError, match="a data set of 0 samples"):
        Samples(small("digits"), 0)


def test_sizes_reach_the_model():
    assert build("digits", num_classes=3)(torch.zeros(1, 1, 8, 8)).shape == (1, 3)


def test_a_misspelt_name_offers_the_closest_one():
    with pytest.raises(ValueError, match="no model named 'char-gpt': did you mean 'char_gpt'"):
        build("char-gpt")


def test_a_name_like_no_other_lists_all():
    with pytest.raises(ValueError, match=r"no model named 'zzz': \(there are bert, .*, vgg16\)"):
        build("zzz")


def test_an_unknown_size_is_refused():
    with pytest.raises(TypeError, match="depth"):
        build("digits", depth=3)
