"""Fields of a record, checked where they come in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from proponent.corpus.records import Record, kind
from proponent.errors import InputError


def text_of(record: Record, field: str, option: str | None = None) -> str:
    """The string in a record's field, or InputError; option: the command line's, to name another field."""
    if field not in record.fields:
        found = ", ".join(record.fields) or "none"
        remedy = f"; name the right one with {option}" if option else ""
        raise InputError(f"{record.place}: no field {field!r}, the fields are: {found}{remedy}")
    text = record.fields[field]
    if not isinstance(text, str):
        raise InputError(f"{record.place}: the field {field!r} must be a string, not {kind(text)}")
    require_unicode(text, record.place, f"the field {field!r}")
    return text


def id_of(record: Record, field: str, option: str | None = None) -> str:
    """The id in a record's field, a string that is not empty or an integer; errors as `text_of`."""
    value = record.fields.get(field)
    if type(value) is int:
        return str(value)
    id = text_of(record, field, option)
    if not id:
        raise InputError(f"{record.place}: the id in {field!r} is empty")
    return id


def list_of(record: Record, field: str, accept: Callable[[object], bool], words: str) -> list[Any]:
    """The list in a record's field, empty where it is missing or null.

    Raises InputError where it is no list, or holds what ``accept`` refuses; words: what it must hold.
    """
    values = record.fields.get(field)
    if values is None:
        return []
    if not isinstance(values, list):
        raise InputError(f"{record.place}: the field {field!r} must be a list of {words}, not {kind(values)}")
    for value in values:
        if not accept(value):
            raise InputError(f"{record.place}: the list {field!r} must hold {words} only, not {kind(value)}")
        require_unicode(value, record.place, f"the list {field!r}")
    return values


def strings_of(record: Record, field: str) -> tuple[str, ...]:
    """The strings in a record's list; errors as `list_of`."""
    return tuple(list_of(record, field, lambda value: isinstance(value, str), "strings"))


def ids_of(record: Record, field: str) -> tuple[str, ...]:
    """The ids in a record's list, strings or integers as in `id_of`; errors as `list_of`."""
    return tuple(map(str, list_of(record, field, lambda value: type(value) in (str, int), "strings")))


def require_unicode(value: object, place: str, where: str) -> None:
    """Raise InputError where a string in a value, called ``where``, holds half a surrogate pair."""
    if isinstance(value, list | tuple | dict):
        for item in [*value, *value.values()] if isinstance(value, dict) else value:
            require_unicode(item, place, where)
    elif isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InputError(f"{place}: {where} holds half a surrogate pair, which is no text") from None
