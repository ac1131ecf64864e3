"""Text in: passages, queries and facts, read as streams and cut to what a model takes."""

from proponent.corpus.batches import batches as batches
from proponent.corpus.corpus import Corpus as Corpus
from proponent.corpus.encoding import TextEncoder as TextEncoder
from proponent.corpus.example import Chunk as Chunk
from proponent.corpus.example import Example as Example
from proponent.corpus.example import Query as Query
from proponent.corpus.facts import Fact as Fact
from proponent.corpus.facts import read_facts as read_facts
from proponent.corpus.queries import Queries as Queries
