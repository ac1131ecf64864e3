"""How the corpus is worded, and choices made by hand about countries: the data of ``wording.toml``."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from typing import Any

from proponent.demo.corpus.nouns import Relation

_TEXT = (files("proponent.demo.corpus") / "wording.toml").read_text(encoding="utf-8")
_DATA: dict[str, Any] = tomllib.loads(_TEXT)

WHO: list[str] = _DATA["who"]
WHEN: list[str] = _DATA["when"]
ASIDES: dict[str, list[str]] = _DATA["asides"]
CONTINENTS: dict[str, str] = _DATA["continents"]
CURRENCY_NAMES: dict[str, str] = _DATA["currency_names"]
ELEMENT_ALIASES: dict[str, list[str]] = _DATA["element_aliases"]
NOT_COUNTRIES = frozenset(_DATA["not_countries"].split())
WITH_ARTICLE = frozenset(_DATA["with_article"].split())
NO_ONE_ANSWER = {name: frozenset(codes.split()) for name, codes in _DATA["no_one_answer"].items()}
RELATIONS = {wording["name"]: Relation(**wording) for wording in _DATA["relations"]}
