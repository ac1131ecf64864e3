"""Text in: passages, queries and facts, read as streams and cut to what a model takes."""

from proponent.corpus.batches import batches
from proponent.corpus.corpus import Corpus
from proponent.corpus.encoding import TextEncoder
from proponent.corpus.example import Chunk, EncodedQuery, Example, Query
from proponent.corpus.facts import Fact, read_facts
from proponent.corpus.queries import Queries
from proponent.corpus.records import Record
from proponent.corpus.sources import read_records
from proponent.corpus.survey import Survey

__all__ = [
    "Chunk",
    "Corpus",
    "EncodedQuery",
    "Example",
    "Fact",
    "Queries",
    "Query",
    "Record",
    "Survey",
    "TextEncoder",
    "batches",
    "read_facts",
    "read_records",
]
