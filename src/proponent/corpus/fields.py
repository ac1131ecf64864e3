"""Fields of a record, checked where they come in."""

from __future__ import annotations

from proponent.corpus.records import Record, kind
from proponent.errors import InputError


def text_of(record: Record, field: str, option: str | None = None) -> str:
    """The string in a record's field; raises InputError where it is missing, no string or no Unicode.

    option: the command-line option that names another field, for the message.
    """
    if field not in record.fields:
        found = ", ".join(record.fields) or "none"
        remedy = f"; name the right one with {option}" if option else ""
        raise InputError(f"{record.place}: no field {field!r}, the fields are: {found}{remedy}")
    text = record.fields[field]
    if not isinstance(text, str):
        raise InputError(f"{record.place}: the field {field!r} must be a string, not {kind(text)}")
    if not text.isascii() and _has_lone_surrogate(text):
        raise InputError(f"{record.place}: the field {field!r} holds half a surrogate pair, which is no text")
    return text


def _has_lone_surrogate(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def id_of(record: Record, field: str, option: str | None = None) -> str:
    """The id in a record's field, a string that is not empty or an integer; errors as `text_of`."""
    value = record.fields.get(field)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    id = text_of(record, field, option)
    if not id:
        raise InputError(f"{record.place}: the id in {field!r} is empty")
    return id
