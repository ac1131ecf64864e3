"""Draw facts, state them in sentences, add distractors, and write both in the paper's schema."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proponent.demo.corpus.nouns import Fact, fill, mentions
from proponent.demo.corpus.wording import ASIDES, WHEN, WHO
from proponent.demo.corpus.world import known_facts
from proponent.errors import InputError
from proponent.files import written_whole

# Share of the facts by how many sentences state them: rare facts are the interesting ones to trace.
_STATED = {1: 0.12, 2: 0.23, 3: 0.35, 4: 0.30}
# Share of the facts that are stated in the words of their prompt: enough to teach the model how a prompt of
# the relation is answered, few enough that it must learn most answers from paraphrases.
_STATED_AS_PROMPT = 0.5
# Distractors of each kind for each fact, on average.
_ASIDES_PER_FACT, _ASKS_PER_FACT, _CROSSED_PER_FACT, _OBJECTS_PER_FACT = 0.25, 0.4, 0.4, 0.25


@dataclass(frozen=True, slots=True)
class DemoCorpus:
    """A generated corpus on disk.  counts: facts, sentences, gold, distractors."""

    facts_path: Path
    sentences_path: Path
    counts: Mapping[str, int]


@dataclass(slots=True)
class _Sentence:
    """A sentence, the uri of the entity it is about, and the facts that it states (none: a distractor)."""

    text: str
    about: str
    states: tuple[Fact, ...] = ()


def generate(directory: str | os.PathLike[str], facts: int = 750, seed: int = 0) -> DemoCorpus:
    """Write ``facts.jsonl`` and ``sentences.jsonl`` to ``directory``; the same seed gives the same bytes.

    facts: how many, in equal numbers for each relation as long as it has enough; there are some twenty
    thousand, mostly cities.  About four sentences are written for each fact.
    Raises InputError where a data package is missing, for more facts than it holds, and where one of the
    files is there with other content.
    """
    known = known_facts()
    available = sum(map(len, known.values()))
    if not 1 <= facts <= available:
        raise InputError(f"facts is {facts}: give 1 to {available}, the facts that the data packages hold")
    chosen = _choose(known, facts, random.Random(f"facts {seed}"))
    sentences = _write_sentences(chosen, random.Random(f"sentences {seed}"))
    gold: dict[str, list[str]] = {fact.id: [] for fact in chosen}
    for row, sentence in enumerate(sentences):
        for fact in sentence.states:
            gold[fact.id].append(f"s{row:06d}")
    facts_path, sentences_path = Path(directory, "facts.jsonl"), Path(directory, "sentences.jsonl")
    contents = {
        facts_path: _lines(_fact_record(fact, gold[fact.id]) for fact in chosen),
        sentences_path: _lines(_sentence_records(sentences)),
    }
    for path, content in contents.items():
        if path.exists() and (not path.is_file() or path.read_bytes() != content):
            found = f"{path}: there already with other content (of another seed, or of other versions"
            raise InputError(f"{found} of the data packages?); give another folder")
    for path, content in contents.items():
        if not path.exists():
            with written_whole(path) as aside:
                aside.write_bytes(content)
    stating = sum(1 for sentence in sentences if sentence.states)
    counts = {"facts": len(chosen), "sentences": len(sentences), "gold": stating}
    return DemoCorpus(facts_path, sentences_path, {**counts, "distractors": len(sentences) - stating})


def _choose(known: Mapping[str, list[Fact]], wanted: int, draw: random.Random) -> list[Fact]:
    """``wanted`` facts, in equal numbers for each relation as long as it has enough; large cities first."""
    share = dict.fromkeys(known, 0)
    while (missing := wanted - sum(share.values())) > 0:
        open_ = [name for name in known if share[name] < len(known[name])]
        for name in open_[:missing]:
            share[name] += min(max(1, missing // len(open_)), len(known[name]) - share[name])
    chosen = []
    for name, number in share.items():
        pool = known[name] if name == "city" else draw.sample(known[name], len(known[name]))
        chosen += pool[:number]
    return chosen


def _write_sentences(facts: list[Fact], draw: random.Random) -> list[_Sentence]:
    """All sentences about the facts, in random order, each text once."""
    siblings: dict[str, list[Fact]] = {}
    for fact in facts:
        siblings.setdefault(fact.relation.name, []).append(fact)
    unique = {sentence.text: sentence for fact in facts for sentence in _statements(fact, draw)}
    for fact in facts:
        for sentence in _distractors(fact, siblings[fact.relation.name], draw):
            unique.setdefault(sentence.text, sentence)
    sentences = list(unique.values())
    draw.shuffle(sentences)
    return sentences


def _statements(fact: Fact, draw: random.Random) -> Iterator[_Sentence]:
    """One to four sentences that state the fact, each by another template.

    The first has the subject before the object, or the model would not learn to continue the subject.
    """
    number = draw.choices(list(_STATED), list(_STATED.values()))[0]
    templates = draw.sample(fact.relation.statements, len(fact.relation.statements))
    templates.sort(key=lambda template: template.index("{o}") < template.index("{s}"))
    first, others = templates[0], draw.sample(templates[1:], len(templates) - 1)
    if draw.random() < _STATED_AS_PROMPT:
        first = fact.relation.prompt
    for template in [first, *others][:number]:
        text = fill(template, s=fact.subject.phrase, o=fact.object.phrase)
        yield _Sentence(text, fact.subject.uri, (fact,))


def _distractors(fact: Fact, siblings: list[Fact], draw: random.Random) -> Iterator[_Sentence]:
    """Sentences that mention the fact's subject or its object, never both.

    siblings: facts of the same relation; one of their objects is the wrong one that the subject meets.
    """
    relation, subject = fact.relation, fact.subject
    wrong = draw.choice(siblings).object
    kinds = [
        (_ASIDES_PER_FACT, ASIDES[subject.uri.split(":")[0]], subject.uri),
        (_ASKS_PER_FACT, relation.asks, subject.uri),
        (_OBJECTS_PER_FACT, relation.objects, fact.object.uri),
    ]
    if not mentions(wrong.name, fact.object.name) and not mentions(fact.object.name, wrong.name):
        kinds.append((_CROSSED_PER_FACT, relation.crossed, subject.uri))
    for rate, templates, about in kinds:
        if draw.random() < rate:
            scenery = {"who": draw.choice(WHO), "when": draw.choice(WHEN)}
            names = {"s": subject.phrase, "o": fact.object.phrase, "x": wrong.phrase}
            yield _Sentence(fill(draw.choice(templates), **names, **scenery), about)


def _sentence_records(sentences: list[_Sentence]) -> Iterator[dict[str, Any]]:
    """Sentences as records; an "abstract" is all the sentences about one entity."""
    written: dict[str, int] = {}
    for row, sentence in enumerate(sentences):
        written[sentence.about] = written.get(sentence.about, -1) + 1
        yield {
            "sentence_id": f"s{row:06d}",
            "text": sentence.text,
            "abstract_uri": sentence.about,
            "sent_idx_in_abst": written[sentence.about],
            "fact_triples": [list(fact.triple) for fact in sentence.states],
        }


def _fact_record(fact: Fact, gold: list[str]) -> dict[str, Any]:
    return {
        "fact_id": fact.id,
        "entity0": fact.subject.name,
        "relation": fact.relation.name,
        "entity1": fact.object.name,
        **dict(zip(("entity0_uri", "predicate_uri", "entity1_uri"), fact.triple, strict=True)),
        "entity0_alias": [fact.subject.name, *fact.subject.alias],
        "entity1_alias": [fact.object.name, *fact.object.alias],
        "trex_sentences": gold,
        "prompt0": fact.prompt,
    }


def _lines(records: Iterable[Mapping[str, Any]]) -> bytes:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()
