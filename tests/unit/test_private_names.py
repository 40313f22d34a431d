"""No private name of another project is used: it may be gone with that project's next release.

Found are names with a leading underscore in imports, in attributes (of an imported module, or of
anything where no file of this repository defines the name), in texts such as a monkeypatch takes,
and methods that replace a private one of a base class.
"""

import ast
import builtins
import importlib
import inspect
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OWN = {"eflib", "tests", "examples"}
PARTS = ("eflib", "launcher", "models", "profiles", "examples", "tests")
LINKED = {ROOT / "eflib" / part for part in ("launcher", "models", "profiles")}
# With an underscore, and documented all the same: the methods of named tuples, and os._exit.
DOCUMENTED = {"os._exit", "_asdict", "_field_defaults", "_fields", "_make", "_replace"}

# What is used still, by file and name, with the reason. It may only shrink: an entry that is needed
# no longer fails the test.
FSDP = "FSDP2 has no public way to be taken off a module and put on again with another group"
END = "the interpreter's own end, of which no part can be asked for publicly; then comes os._exit"
NORM = "the common base of all batch norms"
ELASTIC = "torch elastic's public start takes over the signal handlers of the agent"
EXCEPTIONS = {
    "eflib/agent/context.py": {"WorkerContext._pc": ELASTIC, "WorkerContext._start": ELASTIC},
    "eflib/agent/script.py": {"atexit._run_exitfuncs": END, "threading._shutdown": END},
    "eflib/trainer/state/unsharding.py": dict.fromkeys(
        [
            "._clear_DTensor_sharding_propagator_cache",
            "._compiled_call_impl",
            "._fsdp_param_group",
            "._fsdp_param_groups",
            "._fsdp_use_orig_params",
            "._is_fsdp_managed_module",
            "._module_info",
            "._module_to_pre_load_state_dict_hook_handle",
            "._module_to_pre_save_state_dict_hook_handle",
            "._orig_mod",
            "._orig_size",
            "._pg_registry",
            "._post_forward_hook_handle",
            "._post_load_hook_handle",
            "._pre_forward_hook_handle",
            "torch._C",
            "torch.distributed._composable_state",
            "torch.distributed.tensor._redistribute",
        ],
        FSDP,
    ),
    "eflib/trainer/step/deterministic.py": {
        "torch._foreach_add_": "one call for many tensors; the optimizers of torch use it too",
        "torch._foreach_copy_": "one call for many tensors; the optimizers of torch use it too",
    },
    "eflib/trainer/step/sync_batchnorm.py": {
        "torch.nn.modules.batchnorm._BatchNorm": NORM,
        "torch.nn.modules.batchnorm._NormBase._check_input_dim": NORM,
    },
}


def files():
    for part in PARTS:
        for file in sorted((ROOT / part).rglob("*.py")):
            if not LINKED & set(file.parents) and file != Path(__file__):
                yield file


TREES = {
    file.relative_to(ROOT).as_posix(): ast.parse(file.read_text(encoding="utf-8"))
    for file in files()
}


def private(name):
    return bool(re.match(r"_(?!_)\w", name)) or bool(re.match(r"__\w+(?<!__)$", name))


def defined(tree):
    """Yield every name that a file defines: functions, variables, arguments, attributes of self."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr if getattr(node.value, "id", None) in {"self", "cls"} else "-"


MODULES = {part for name in TREES for part in Path(name).with_suffix("").parts}
DEFINED = MODULES.union(*(set(defined(tree)) for tree in TREES.values()))


def imported(tree):
    """Return the path of each foreign module or object that a file imports, by its name there."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for one in node.names:
                root = one.name.split(".")[0]
                found[one.asname or root] = one.name if one.asname else root
        elif isinstance(node, ast.ImportFrom):
            found |= {one.asname or one.name: f"{node.module}.{one.name}" for one in node.names}
    return {name: path for name, path in found.items() if path.split(".")[0] not in OWN}


def dotted(node):
    """Return ``a.b.c`` of an attribute as written, or None where its root is no plain name."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else None


def up_to_private(path):
    """Cut a path behind its first private part; None where it has none."""
    parts = path.split(".")
    for count, part in enumerate(parts, 1):
        if private(part):
            return ".".join(parts[:count])
    return None


def foreign(tree, roots):
    """Yield the private names of others that a file uses, as ``path.to._name`` or ``._name``."""
    names = imported(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            given = [one.name for one in node.names]
            if isinstance(node, ast.ImportFrom):
                given = [f"{node.module}.{one}" for one in given]
            yield from (up_to_private(one) for one in given if one.split(".")[0] not in OWN)
        elif isinstance(node, ast.Attribute) and private(node.attr):
            path = dotted(node)
            root, _, rest = (path or "").partition(".")
            if root in names:
                yield up_to_private(f"{names[root]}.{rest}")
            elif root not in {"self", "cls"} and node.attr not in DEFINED:
                yield f".{node.attr}"
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if re.fullmatch(r"[A-Za-z]\w*(\.\w+)+", node.value):
                root = node.value.split(".")[0]
                yield up_to_private(node.value) if root in roots - OWN else None
            elif re.fullmatch(r"_\w*[^\W_]", node.value) and private(node.value):
                yield None if node.value in DEFINED else f".{node.value}"


ROOTS = set(sys.stdlib_module_names).union(
    *({path.split(".")[0] for path in imported(tree).values()} for tree in TREES.values())
)


def own_classes():
    """Return of each class of the repository its bases, as written, and the names it defines."""
    found = {}
    for tree in TREES.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                bases, names = found.setdefault(node.name, (set(), set()))
                bases |= {(dotted(base) or "").split(".")[-1] for base in node.bases}
                names |= set(defined(node))
    return found


CLASSES = own_classes()


def inherited(tree):
    """Yield ``Class._name`` for what a class uses of itself and no class of ours defines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            line, known = [node.name], set()
            for name in line:  # it grows while it is walked: the class, its bases, theirs
                bases, names = CLASSES.get(name, (set(), set()))
                known |= names
                line += sorted(bases - set(line))
            used_here = {one for one in ast.walk(node) if isinstance(one, ast.Attribute)}
            for one in used_here:
                if private(one.attr) and dotted(one) in {f"self.{one.attr}", f"cls.{one.attr}"}:
                    yield None if one.attr in known else f"{node.name}.{one.attr}"


def used(tree):
    """Return the private names of others in a file, without what is documented."""
    names = {one for one in [*foreign(tree, ROOTS), *inherited(tree)] if one}
    return {one for one in names if one.lstrip(".") not in DOCUMENTED}


def replaced(kind):
    """Yield the private names of foreign base classes that a class defines anew."""
    for base in kind.__mro__[1:]:
        if base.__module__.split(".")[0] not in OWN and not hasattr(builtins, base.__name__):
            for name in filter(private, set(vars(kind)) & set(vars(base))):
                if getattr(vars(kind)[name], "__module__", None) == kind.__module__:
                    yield f"{base.__module__}.{base.__qualname__}.{name}"


def found():
    """Return all findings by file."""
    result = {name: used(tree) for name, tree in TREES.items()}
    for name in TREES:
        if name.startswith("eflib/") and "__main__" not in name:
            module = importlib.import_module(name.removesuffix(".py").replace("/", "."))
            kinds = [one for one in vars(module).values() if inspect.isclass(one)]
            for kind in kinds:
                if kind.__module__ == module.__name__:
                    result[name] |= set(replaced(kind))
    return {name: names for name, names in result.items() if names}


def test_no_private_name_of_another_project_is_used_but_for_the_exceptions():
    unknown = {name: names - set(EXCEPTIONS.get(name, {})) for name, names in found().items()}

    assert {name: sorted(names) for name, names in unknown.items() if names} == {}


def test_every_exception_is_needed_still():
    needed = found()

    assert {
        name: sorted(set(entries) - needed.get(name, set()))
        for name, entries in EXCEPTIONS.items()
        if set(entries) - needed.get(name, set())
    } == {}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("import filelock._api", "filelock._api"),
        ("from filelock import _api", "filelock._api"),
        ("from filelock._api import time", "filelock._api"),
        (
            "import torch.distributed as dist\ndist.distributed_c10d._world.count",
            "torch.distributed.distributed_c10d._world",
        ),
        ("def f(group): return group._get_backend_of_it(1)", "._get_backend_of_it"),
        ("def f(backend): backend.options.x._of_another = 1", "._of_another"),
        ("def f(make): make()._of_another()", "._of_another"),
        ("def f(patch): patch.setattr('filelock._api.time.sleep', 1)", "filelock._api"),
        ("def f(one): return getattr(one, '_of_' 'another', None)", "._of_another"),
    ],
)
def test_a_private_name_is_found_however_it_is_written(text, name):
    assert used(ast.parse(text)) == {name}


@pytest.mark.parametrize(
    "text",
    [
        "import os\nos._exit(1)",
        "def f(row): return row._replace(a=1)",
        "import torch\ntorch.add_.__name__",
        "def f(lock): return lock._stop, lock.__class__",
    ],
)
def test_documented_and_own_names_are_left_alone(text):
    assert used(ast.parse(text)) == set()
