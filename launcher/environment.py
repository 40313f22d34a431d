"""Which of the shell's variables go along with a job.

A job's environment stands in the store, which is signed and not encrypted. So what goes along is a
list of what Python, torch and the libraries around them read; secrets do not, nor what a script may
read besides, unless it is named with ``--env``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from eflib.errors import UsageError, printable
from eflib.launcher import values

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

SENT = (
    *("HOME", "LANG", "LANGUAGE", "LC_*", "LOGNAME", "PATH", "TEMP", "TMP", "TMPDIR", "TZ"),
    *("USER", "XDG_*", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_*"),
    *("CONDA_*", "DYLD_*", "LD_*", "MAMBA_*", "PYTHON*", "VIRTUAL_ENV"),
    *("BLIS_*", "GOMP_*", "KMP_*", "MKL_*", "NUMBA_*", "NUMEXPR_*", "OMP_*", "OPENBLAS_*"),
    *("CUBLAS_*", "CUDA*", "CUDNN_*", "GLOO_*", "HIP_*", "HSA_*", "MIOPEN_*", "NCCL_*"),
    *("NVIDIA_*", "ROCM_*", "ROCR_*", "TRITON_*", "UCX_*", "XLA_*"),
    *("PYTORCH_*", "TORCH*", "ACCELERATE_*", "DATASETS_*", "HF_*", "HUGGINGFACE_*"),
    *("COMET_*", "MLFLOW_*", "TENSORBOARD_*", "TOKENIZERS_*", "TRANSFORMERS_*", "WANDB_*"),
    "EFLIB_*",
)
"""Names that go along; ``*`` stands for any end. Upper and lower case are one."""

NEVER = ("TORCHELASTIC_*",)
"""Names of the list that say where the shell is, not what the script should see."""

_SECRET = re.compile(
    r"(^|_)(AUTH|COOKIE|CREDENTIALS?|KEY|PASS|PASSPHRASE|PASSWD|PASSWORD|PRIVATE|PW|PWD|SECRET|"
    r"SECRETS|TOKEN|TOKENS)(_|$)|APIKEY|PASSWORD|SECRET"
)
_PLAIN = {"EFLIB_KEY_FILE", "TOKENIZERS_PARALLELISM"}
_OF_THE_SHELL = (
    *("_", "BASH*", "CI", "COLORTERM", "COLUMNS", "DBUS_*", "DEBIAN_*", "DESKTOP_*", "DISPLAY"),
    *("EDITOR", "GNOME_*", "GPG_*", "HIST*", "HOSTNAME", "HOSTTYPE", "INVOCATION_ID"),
    *("JOURNAL_STREAM", "KDE_*", "LESS*", "LINES", "LS_COLORS", "MACHTYPE", "MAIL", "MAKE*"),
    *("MFLAGS", "NVM_*", "OLDPWD", "OSTYPE", "PAGER", "PS1", "PWD", "PYENV_*", "PYTEST_*"),
    *("SESSION_*", "SHELL", "SHLVL", "SSH_*", "STY", "SUDO_*", "SYSTEMD_*", "TERM*", "TMUX*"),
    *("VISUAL", "VSCODE_*", "VTE_*", "WAYLAND_*", "WINDOWID", "XAUTHORITY", "ZSH*"),
)
"""Names that nobody misses in a script: they are left out without a word."""
_SHOWN = 5


def sent(environ: Mapping[str, str], named: Collection[str] = ()) -> dict[str, str]:
    """Return the variables that go along with a job.

    Args:
        environ: The shell's variables.
        named: Names of further ones, whatever they are.

    Raises:
        UsageError: One that is named is not set.
    """
    for name in named:
        if name not in environ:
            raise UsageError(
                f"there is no variable {name!r} to send with --env",
                hint="give the names of variables that are set, with commas between them",
            )
    return {
        name: value
        for name, value in environ.items()
        if (name in named or (_matches(name, SENT) and not _is_withheld(name, value)))
        and values.is_unicode(name + value)
    }


def left_out(environ: Mapping[str, str], named: Collection[str] = ()) -> str:
    """Return what a person should know of variables that do not go along; empty: nothing."""
    going = sent(environ, named)
    missing = sorted(
        name
        for name in environ
        if name not in going and not _matches(name, (*_OF_THE_SHELL, *NEVER))
    )
    if not missing:
        return ""
    shown = [printable(name)[:40] for name in missing[:_SHOWN]]
    more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
    return f"not sent to the job: {', '.join(shown)}{more} (send some with --env NAME,NAME)"


def is_secret(name: str, value: str = "") -> bool:
    """Tell whether a variable is taken for a secret, by its name or by a password in an address."""
    by_name = bool(_SECRET.search(name.upper())) and name not in _PLAIN
    return by_name or bool(re.search(r"://[^/\s]*:[^/\s]*@", value))


def _is_withheld(name: str, value: str) -> bool:
    return is_secret(name, value) or _matches(name, NEVER)


def _matches(name: str, patterns: Collection[str]) -> bool:
    upper = name.upper()
    return any(
        upper.startswith(pattern[:-1]) if pattern.endswith("*") else upper == pattern
        for pattern in patterns
    )
