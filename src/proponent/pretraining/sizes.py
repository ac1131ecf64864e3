"""The sizes of model that pretraining offers."""

from __future__ import annotations

from dataclasses import dataclass

from transformers import LlamaConfig, PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class ModelSize:
    """A Llama shape and the settings that train it well.

    hidden: width.  mlp: width inside the MLP.  vocabulary: at most so many tokens.
    batch: passages a step.  learning_rate: Adafactor's highest, at the end of the warm-up.

    Embeddings are tied to the unembedding: influence gradients cover neither, so the fewer parameters they
    have, the more of the model's knowledge is in the matrices that are covered.
    """

    name: str
    hidden: int
    layers: int
    heads: int
    mlp: int
    vocabulary: int
    batch: int
    learning_rate: float

    def config(self, tokenizer: PreTrainedTokenizerBase, max_length: int) -> LlamaConfig:
        """The model's configuration for a trained tokenizer and passages of up to max_length tokens."""
        return LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=self.hidden,
            intermediate_size=self.mlp,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.heads,
            max_position_embeddings=max_length + 1,  # an end-of-text token follows the longest passage
            tie_word_embeddings=True,
            # So that a linear layer keeps the scale of its inputs.  The library's 0.02 suits widths of
            # thousands; with it, runs at widths 128 and 192 learned hardly a tenth of the demo's facts.
            initializer_range=self.hidden**-0.5,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            use_cache=False,
        )


# Parameters, with the whole vocabulary: 0.26, 1.4, 5.5, 17 and 53 million.
SIZES = {
    size.name: size
    for size in (
        ModelSize("nano", 64, 3, 2, 160, vocabulary=2048, batch=32, learning_rate=5e-3),
        ModelSize("tiny", 128, 4, 4, 384, vocabulary=4096, batch=32, learning_rate=3e-3),
        ModelSize("small", 256, 6, 4, 512, vocabulary=6144, batch=32, learning_rate=2e-3),
        ModelSize("medium", 384, 8, 6, 1024, vocabulary=8192, batch=32, learning_rate=1e-3),
        ModelSize("base", 576, 12, 9, 1536, vocabulary=8192, batch=32, learning_rate=7e-4),
    )
}
