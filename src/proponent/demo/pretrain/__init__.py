"""Training a small Llama-shaped model from scratch on any corpus."""

from proponent.demo.pretrain.run import Pretrained, pretrain
from proponent.demo.pretrain.sizes import SIZES, ModelSize

__all__ = ["SIZES", "ModelSize", "Pretrained", "pretrain"]
