"""From a corpus to training batches: the tokenizer, token arrays on disk, padding.

Every passage is a sequence of its own: a beginning-of-text token, its tokens, and after its last chunk an
end-of-text token, so that the model learns to stop.  The tokenizer itself adds the beginning alone, so that
passages and prompts are encoded alike when they are traced.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset, Sampler
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from proponent.corpus.encoding import TextEncoder
from proponent.corpus.example import Example

PAD, BEGIN, END = "<pad>", "<s>", "</s>"
IGNORED = -100  # the label that cross-entropy skips
WINDOW = 16  # batches in a window that is sorted by length


def train_tokenizer(corpus: Iterable[Example], vocabulary: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of at most ``vocabulary`` tokens; it can encode any text."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD, BEGIN, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator((example.text for example in corpus), trainer)
    backend.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A",
        pair=f"{BEGIN} $A {BEGIN} $B",
        special_tokens=[(BEGIN, backend.token_to_id(BEGIN))],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD,
        bos_token=BEGIN,
        eos_token=END,
        clean_up_tokenization_spaces=False,
    )


class TokenisedPassages(Dataset[NDArray[np.uint32]]):
    """The chunks of a corpus as token ids, in one memory-mapped file.

    lengths: tokens of each chunk [n].
    """

    def __init__(self, path: Path, lengths: NDArray[np.int64]) -> None:
        self.lengths = lengths
        self._ends = np.cumsum(lengths)
        self._tokens = np.memmap(path, dtype=np.uint32, mode="r")

    @classmethod
    def write(
        cls, corpus: Iterable[Example], tokenizer: PreTrainedTokenizerBase, max_length: int, path: Path
    ) -> TokenisedPassages:
        """Encode a corpus into the file at ``path``, passage by passage, and open it."""
        encoder, lengths = TextEncoder(tokenizer), array("q")
        with path.open("wb") as out:
            for example in corpus:
                chunks = [list(chunk.tokens) for chunk in encoder.chunks(example, max_length)]
                if chunks:
                    chunks[-1].append(tokenizer.eos_token_id)
                for tokens in chunks:
                    out.write(np.asarray(tokens, dtype=np.uint32).tobytes())
                    lengths.append(len(tokens))
        return cls(path, np.asarray(lengths, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, row: int) -> NDArray[np.uint32]:
        end = int(self._ends[row])
        return self._tokens[end - int(self.lengths[row]) : end]


@dataclass(frozen=True, slots=True)
class PadRight:
    """Makes a batch of chunks: input_ids, attention_mask and labels, each [n, t]."""

    pad: int

    def __call__(self, chunks: list[NDArray[np.uint32]]) -> dict[str, Tensor]:
        rows = [torch.from_numpy(chunk.astype(np.int64)) for chunk in chunks]
        tokens = pad_sequence(rows, batch_first=True, padding_value=self.pad)  # [n, t]
        mask = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
        return {"input_ids": tokens, "attention_mask": mask, "labels": tokens.masked_fill(mask == 0, IGNORED)}


class GroupedByLength(Sampler[int]):
    """A random order, by seed and epoch alone, in which a batch has passages of similar length."""

    def __init__(self, lengths: NDArray[np.int64], batch: int, seed: int) -> None:
        self._lengths, self._batch, self._seed, self._epoch = lengths, batch, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        draw = np.random.default_rng((self._seed, self._epoch))
        order = draw.permutation(len(self._lengths))
        window = self._batch * WINDOW
        batches: list[NDArray[np.int64]] = []
        for start in range(0, len(order), window):
            rows = order[start : start + window]
            rows = rows[np.argsort(self._lengths[rows], kind="stable")]
            batches += [rows[at : at + self._batch] for at in range(0, len(rows), self._batch)]
        # The one batch that is not full stays last: the loader cuts the order into batches of equal size.
        full = len(order) // self._batch
        for place in [*draw.permutation(full), *range(full, len(batches))]:
            yield from batches[place].tolist()
