import pytest

from eflib.errors import UsageError
from eflib.profiles import Profile, import_tables, read, read_folder, read_table, write

TABLE = "global_batch_size,1,2,4\n64,2.0,3.5,\n128,1.0,nan,3.0\n256,0,0,0\n"


def a_file(folder, name, text):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_written_profile_is_read_back(tmp_path):
    profile = Profile(model="m", device="t4", points={1: 1.25, 4: 3.5}, global_batch_size=64)

    path = write(profile, tmp_path / "new")

    assert path == tmp_path / "new" / "m-64.json"
    assert read(path) == profile


def test_two_columns_are_a_curve(tmp_path):
    path = a_file(tmp_path, "mine.csv", "gpus,steps_per_second\n\n2, 18.5\n1,10\n")

    profile = read(path)

    assert (profile.model, profile.global_batch_size) == ("mine", None)
    assert profile.curve.points == {1: 10.0, 2: 18.5}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "gpus,steps\n1,2\n", r"a.csv:1: expected the columns gpus,steps_per_second"),
        ("a.csv", "", r"a.csv:1: expected the columns"),
        ("a.csv", "gpus,steps_per_second\n1,2,3\n", r"a.csv:2: expected 2 values, found 3"),
        ("a.csv", "gpus,steps_per_second\n1,2\n0,2\n", r"a.csv:3: gpus must be .*, got '0'"),
        ("a.csv", "gpus,steps_per_second\n1,fast\n", r"a.csv:2: steps_per_second must be .*, got"),
        ("a.csv", "gpus,steps_per_second\n1,2\n1,3\n", r"a.csv:3: 1 GPUs for the second time"),
        ("a.csv", "gpus,steps_per_second\n1,\n", r"no measured point in .*a.csv"),
        ("a.csv", TABLE, r"a.csv is a table of several curves"),
        ("a.json", "{\n  oops", r"a.json:2: not JSON: .* at column 3"),
        ("a.json", "[]", r"no profile in .*a.json"),
        ("a.json", "[" * 100_000, r"a.json: the JSON is nested too deeply"),
        ("a.json", "9" * 5000, r"a.json: a number has too many digits"),
        ("a.json", r'{"model": "\ud800", "points": {"1": 1}}', "half of a surrogate pair"),
        ("a.json", " " * 2**20 + "{}", r"cannot read the profile .*a.json \(it has 1048578 bytes"),
        ("a.csv", "gpus,steps_per_second\n1,1e999\n", r"no measured point in .*a.csv"),
    ],
)
def test_a_file_that_is_no_curve_is_refused_with_its_place(tmp_path, name, text, message):
    with pytest.raises(UsageError, match=message) as caught:
        read(a_file(tmp_path, name, text))
    assert caught.value.hint


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"cannot read the profile .*none\.json \(no such file\)"):
        read(tmp_path / "none.json")


def test_a_folder_in_place_of_a_file_is_refused(tmp_path):
    with pytest.raises(UsageError, match="cannot read the profile"):
        read(tmp_path)


def test_a_table_gives_one_profile_per_measured_row(tmp_path):
    profiles = read_table(a_file(tmp_path, "net.csv", TABLE), device="X100", source="a paper")

    assert [(p.global_batch_size, p.points) for p in profiles] == [
        (64, {1: 2.0, 2: 3.5}),
        (128, {1: 1.0, 4: 3.0}),
    ]
    assert {(p.model, p.device, p.source) for p in profiles} == {("net", "x100", "a paper")}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("batch,1\n", "net.csv:1: the first column must be global_batch_size"),
        ("", "net.csv:1: the first column must be global_batch_size"),
        ("global_batch_size,one\n", "net.csv:1: a column must be an integer .*, got 'one'"),
        ("global_batch_size,1\n64\n", "net.csv:2: expected 2 values, found 1"),
        ("global_batch_size,1\nbig,2\n", "net.csv:2: global_batch_size must be .*, got 'big'"),
        ("global_batch_size,1\n64,x\n", "net.csv:2: column 1 must be a number, got 'x'"),
    ],
)
def test_a_bad_table_is_refused_with_its_place(tmp_path, text, message):
    with pytest.raises(UsageError, match=message) as caught:
        read_table(a_file(tmp_path, "net.csv", text))
    assert caught.value.hint


def test_importing_a_folder_of_tables_writes_one_profile_per_curve(tmp_path):
    a_file(tmp_path, "b.csv", TABLE)
    a_file(tmp_path, "a.csv", TABLE)

    written = import_tables(tmp_path, device="X100", source="a paper", folder=tmp_path / "out")

    assert [path.name for path in written] == ["a-64.json", "a-128.json", "b-64.json", "b-128.json"]
    assert read(written[0]).source == "a paper"


def test_importing_nothing_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no table of throughputs in"):
        import_tables(tmp_path, device="x", source="", folder=tmp_path)


def test_a_folder_may_hold_profiles_and_tables(tmp_path):
    a_file(tmp_path, "net.csv", TABLE)
    write(Profile(model="m", device="", points={1: 1.0}, global_batch_size=8), tmp_path)

    profiles = read_folder(tmp_path)

    assert [(p.model, p.global_batch_size) for p in profiles] == [
        ("m", 8),
        ("net", 64),
        ("net", 128),
    ]


@pytest.mark.parametrize(("name", "message"), [("none", "no folder of"), (".", "no profile in")])
def test_a_folder_without_profiles_is_refused(tmp_path, name, message):
    with pytest.raises(UsageError, match=message):
        read_folder(tmp_path / name)
