import pytest

from eflib.errors import UsageError
from eflib.profiles import available, curves, devices, find, load, read_folder
from tests.unit.shared_data import shared_data


def test_the_two_published_devices_ship():
    assert devices() == ("a100", "t4")
    assert {p.model for p in available() if p.device == "a100"} >= {
        "bert",
        "gpt2",
        "resnet50",
        "vgg16",
    }


def test_every_shipped_profile_names_its_source_and_lies_in_its_device_s_folder():
    assert len(available()) == 26
    assert all("ElasticFlow artifact" in p.source for p in available())
    assert len({(p.device, p.model, p.global_batch_size) for p in available()}) == 26


def test_a_curve_is_found_by_model_device_and_batch():
    assert load("resnet50", "A100", 256).points[8] == pytest.approx(10.3787, abs=1e-4)


@pytest.mark.parametrize(
    ("wanted", "message", "hint"),
    [
        (("bert", "h100", 64), "no profiles for device 'h100'", "did you mean 'a100'?"),
        (("bert", "tpu", 64), "no profiles for device 'tpu'", "there are a100, t4"),
        (("resnet5", "a100", 64), "no profile of 'resnet5' on a100", "did you mean 'resnet50'?"),
        (("bert", "a100", 65), "global batch size of 65", "there is one for 64, 128"),
    ],
)
def test_a_miss_says_what_there_is(wanted, message, hint):
    with pytest.raises(UsageError, match=message) as caught:
        find(*wanted)

    assert caught.value.hint == hint


def test_curves_of_a_device_are_keyed_by_model_and_batch():
    assert curves("a100")["bert", 64].points == load("bert", "a100", 64).points


def test_curves_of_a_folder_of_tables_are_read(tmp_path):
    (tmp_path / "net.csv").write_text("global_batch_size,1,2\n8,1.0,1.5\n", encoding="utf-8")

    assert curves(tmp_path)["net", 8].points == {1: 1.0, 2: 1.5}


def test_a_name_that_is_neither_device_nor_folder_is_refused():
    with pytest.raises(UsageError, match="no profiles named 'a10'") as caught:
        curves("a10")

    assert caught.value.hint == "did you mean 'a100'?"


@pytest.mark.parametrize("device", ["a100", "t4"])
def test_what_ships_is_what_was_published(device):
    published = read_folder(shared_data("throughputs") / device)
    shipped = [p for p in available() if p.device == device]

    assert [(p.model, p.global_batch_size, p.points) for p in published] == [
        (p.model, p.global_batch_size, p.points) for p in shipped
    ]
