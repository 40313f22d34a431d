"""Make the tables of messages in the documentation from the types.

``python -m eflib.messages.tables docs/messages.md`` writes them between the marks of that page.
"""

from __future__ import annotations

import math
import re
import sys
from pathlib import Path

import msgspec
from msgspec import inspect

from eflib.messages.catalog import OWN_INPUTS, PLACES, SENDERS

BEGIN = "<!-- begin: made by python -m eflib.messages.tables docs/messages.md -->"
END = "<!-- end -->"

_ATTRIBUTE = re.compile(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", re.MULTILINE)


def tables() -> str:
    """Return all tables as Markdown."""
    parts = ["## Keys", _keys(), "## Messages in the inbox", _inbox()]
    parts += ["## Inputs that the coordinator makes or completes", _own()]
    parts += ["## Fields"]
    parts += [_fields(kind) for kind in _all_kinds()]
    return "\n\n".join(parts)


def page(text: str) -> str:
    """Return a page with the tables between its marks made anew."""
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n\n{tables()}\n\n{END}{tail}"


def _keys() -> str:
    rows = [f"| `{place.key}` | {_link(place.kind)} | {place.writer} |" for place in PLACES]
    return "\n".join(["| key | holds | written by |", "|---|---|---|", *rows])


def _inbox() -> str:
    rows = [
        f"| `{_tag(kind)}` | {_link(kind)} | {sender} | {_says(kind)} |"
        for kind, sender in SENDERS.items()
    ]
    return "\n".join(["| `type` | fields | from | meaning |", "|---|---|---|---|", *rows])


def _own() -> str:
    rows = [f"| `{_tag(kind)}` | {_link(kind)} | {_says(kind)} |" for kind in OWN_INPUTS]
    return "\n".join(["| `type` | fields | meaning |", "|---|---|---|", *rows])


def _all_kinds() -> list[type[msgspec.Struct]]:
    """Return all types of the catalog and those that they hold, sorted by name."""
    waiting: list[type[msgspec.Struct]] = [place.kind for place in PLACES]
    waiting += [*SENDERS, *OWN_INPUTS]
    found: dict[str, type[msgspec.Struct]] = {}
    while waiting:
        kind = waiting.pop()
        if kind.__name__ not in found:
            found[kind.__name__] = kind
            for field in _info(kind).fields:
                waiting += _structs(field.type)
    return [found[name] for name in sorted(found)]


def _fields(kind: type[msgspec.Struct]) -> str:
    title = f"### {kind.__name__}\n\n{_says(kind)}"
    fields = _info(kind).fields
    if not fields:
        return title
    meanings = _meanings(kind)
    rows = [
        f"| `{field.encode_name}` | {_spell(field.type)} | {_default(field)} | "
        f"{meanings.get(field.name, '')} |"
        for field in fields
    ]
    head = ["| field | JSON | default | meaning |", "|---|---|---|---|"]
    return "\n".join([title, "", *head, *rows])


def _info(kind: type[msgspec.Struct]) -> inspect.StructType:
    info = inspect.type_info(kind)
    if not isinstance(info, inspect.StructType):
        raise TypeError(f"{kind.__name__} is no message")
    return info


def _structs(kind: inspect.Type) -> list[type[msgspec.Struct]]:
    """Return the messages that a field holds, directly or in a list, a table or a choice."""
    if isinstance(kind, inspect.StructType):
        return [kind.cls]
    inner = [getattr(kind, name, None) for name in ("item_type", "key_type", "value_type")]
    inner += getattr(kind, "types", ())
    return [one for held in inner if held is not None for one in _structs(held)]


def _spell(kind: inspect.Type) -> str:
    """Return how a field looks in JSON, with its bounds."""
    text = {inspect.BoolType: "true or false", inspect.NoneType: "null"}.get(type(kind), "value")
    match kind:
        case inspect.StructType():
            text = _link(kind.cls)
        case inspect.UnionType():
            text = " or ".join(_spell(one) for one in kind.types)
        case inspect.VarTupleType():
            text = f"list of {_spell(kind.item_type)}"
        case inspect.DictType():
            text = f"object: {_spell(kind.key_type)} to {_spell(kind.value_type)}"
        case inspect.StrType():
            text = f"text, at most {kind.max_length:,}" if kind.max_length else "text"
        case inspect.IntType() | inspect.FloatType():
            word = "integer" if isinstance(kind, inspect.IntType) else "number"
            text = word + _range(kind)
    return text


def _range(kind: inspect.IntType | inspect.FloatType) -> str:
    low = kind.ge if kind.ge is not None else kind.gt
    high = kind.le if kind.le is not None else kind.lt
    if low is None or high is None:
        return ""
    return f" {_number(low)} to {'under ' if kind.le is None else ''}{_number(high)}"


def _number(value: float) -> str:
    sign = "-" if value < 0 else ""
    power = math.log2(abs(value)) if value else 0.0
    if power > 24 and power.is_integer():
        return f"{sign}2^{power:.0f}"
    return f"{value:,.0f}" if value == int(value) and abs(value) < 1e15 else f"{value:g}"


def _default(field: inspect.Field) -> str:
    if field.required:
        return "required"
    if field.default_factory is not msgspec.NODEFAULT:
        return "`{}`"
    value = list(field.default) if isinstance(field.default, tuple) else field.default
    return f"`{msgspec.json.encode(value).decode()}`"


def _meanings(kind: type[msgspec.Struct]) -> dict[str, str]:
    """Return what each field means, from the docstrings of a type and those it extends."""
    found: dict[str, str] = {}
    for one in reversed(kind.__mro__):
        _, _, attributes = (one.__doc__ or "").partition("Attributes:\n")
        for name, text in _ATTRIBUTE.findall(_dedented(attributes)):
            found[name] = _one_line(text)
    return found


def _dedented(text: str) -> str:
    lines = text.split("\n")
    shift = len(lines[0]) - len(lines[0].lstrip()) - 4
    return "\n".join(line[shift:] if shift > 0 else line for line in lines)


def _says(kind: type[msgspec.Struct]) -> str:
    return _one_line((kind.__doc__ or "").split("\n\n")[0])


def _one_line(text: str) -> str:
    text = re.sub(r"\bNone\b", "null", text)
    return " ".join(text.replace("``", "`").replace("|", "\\|").split())


def _tag(kind: type[msgspec.Struct]) -> str:
    return str(_info(kind).tag)


def _link(kind: type[msgspec.Struct]) -> str:
    return f"[{kind.__name__}](#{kind.__name__.lower()})"


def main(words: list[str]) -> int:
    """Make the tables of the pages named anew."""
    for word in words:
        file = Path(word)
        file.write_text(page(file.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
