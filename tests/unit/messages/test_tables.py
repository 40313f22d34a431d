"""The page of messages says what the types say, and the types say what each field means."""

from pathlib import Path
from typing import get_args

import pytest

from eflib.messages import tables
from eflib.messages.catalog import OWN_INPUTS, PLACES, SENDERS
from eflib.messages.fields import Message
from eflib.messages.inbox import Inbox
from eflib.messages.journal import Input

PAGE = Path(__file__).parents[3] / "docs" / "messages.md"
KINDS = tables._all_kinds()


def test_the_page_is_up_to_date():
    text = PAGE.read_text(encoding="utf-8")
    assert tables.page(text) == text, "run: python -m eflib.messages.tables docs/messages.md"


def test_every_message_of_the_inbox_and_every_input_is_on_the_page():
    assert set(SENDERS) == set(get_args(Inbox))
    assert set(get_args(Input)) <= {*SENDERS, *OWN_INPUTS}


def test_a_key_is_on_the_page_once():
    found = [place.key for place in PLACES]
    assert len(set(found)) == len(found)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_field_has_a_meaning_and_a_bound(kind):
    assert issubclass(kind, Message)
    assert kind.__struct_config__.frozen
    meanings = tables._meanings(kind)
    for field in tables._info(kind).fields:
        assert meanings.get(field.name), field.name
        spelled = tables._spell(field.type)
        assert "value" not in spelled, field.name
        assert spelled not in {"text", "integer", "number"}, field.name
