"""Training a small Llama-shaped model from scratch on any corpus."""

from proponent.gradients.pretrain.run import Pretrained, pretrain
from proponent.gradients.pretrain.sizes import SIZES, ModelSize

__all__ = ["SIZES", "ModelSize", "Pretrained", "pretrain"]
