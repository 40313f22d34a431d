"""Which variables go along with a job."""

import re
from pathlib import Path

import pytest

from eflib.errors import UsageError
from eflib.launcher.environment import NEVER, SENT, is_secret, left_out, sent

ROOT = Path(__file__).parents[3]
SECRETS = [
    *("HF_TOKEN", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "GITHUB_TOKEN"),
    *("PGPASSWORD", "DB_PASSWORD", "MYSQL_PWD", "SSH_AUTH_SOCK", "OPENAI_API_KEY", "COMET_APIKEY"),
    *("GOOGLE_APPLICATION_CREDENTIALS", "TORCH_SECRET", "EFLIB_token", "NCCL_KEY", "PYTHON_PASS"),
]
USUAL = [
    *("PATH", "HOME", "PYTHONPATH", "LD_LIBRARY_PATH", "CUDA_HOME", "OMP_NUM_THREADS", "LC_ALL"),
    *(
        "NCCL_DEBUG",
        "PYTORCH_CUDA_ALLOC_CONF",
        "HF_HOME",
        "TORCH_HOME",
        "VIRTUAL_ENV",
        "http_proxy",
    ),
    *("TOKENIZERS_PARALLELISM", "PYTHONHASHSEED", "EFLIB_KEY_FILE", "XDG_CACHE_HOME"),
]


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_is_sent_only_by_its_name(name):
    assert is_secret(name)
    assert sent({name: "x"}) == {}
    assert sent({name: "x"}, [name]) == {name: "x"}


@pytest.mark.parametrize("name", USUAL)
def test_what_python_and_torch_read_is_sent(name):
    assert sent({name: "x"}) == {name: "x"}


def test_a_password_in_an_address_is_a_secret_whatever_the_name():
    proxy = {"http_proxy": "http://me:word@proxy:80", "https_proxy": "http://proxy:80"}
    assert sent(proxy) == {"https_proxy": "http://proxy:80"}


@pytest.mark.parametrize("name", ["DATA", "PWD", "TERM", "TORCHELASTIC_RUN_ID", "SLURM_JOB_ID"])
def test_what_is_not_on_the_list_is_sent_only_by_its_name(name):
    assert sent({name: "x"}) == {}
    assert sent({name: "x"}, [name]) == {name: "x"}


def test_a_variable_that_is_not_there_cannot_be_named():
    with pytest.raises(UsageError, match="there is no variable 'NONE' to send with --env"):
        sent({}, ["NONE"])


def test_a_person_is_told_what_a_script_may_miss_and_of_nothing_else():
    environ = {"PATH": "", "TERM": "", "TORCHELASTIC_RUN_ID": "", "SSH_TTY": ""}
    assert left_out(environ) == ""
    some = {**environ, "DATA": "", "HF_TOKEN": ""}
    assert left_out(some) == (
        "not sent to the job: DATA, HF_TOKEN (send some with --env NAME,NAME)"
    )
    assert left_out(some, ["DATA", "HF_TOKEN"]) == ""
    many = {f"V{number}": "" for number in range(9)} | {"V\x1b[2J": ""}
    assert r"V\x1b[2J, V0, V1, V2, V3 and 5 more" in left_out(many)


def test_the_settings_page_lists_what_is_sent():
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    section = page.split("## What a job sees of your shell")[1].split("\n## ")[0]
    assert set(re.findall(r"`([A-Z_]+\*?)`", section)) == {*SENT, *NEVER}
