"""Training a small Llama-shaped model from scratch on any corpus."""

from proponent.pretraining.run import Pretrained, pretrain
from proponent.pretraining.sizes import SIZES, ModelSize

__all__ = ["SIZES", "ModelSize", "Pretrained", "pretrain"]
