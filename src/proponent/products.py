"""Matrix products through the faster of the two libraries that come with torch on a processor.

Float32 products of torch go through MKL, which leaves half of an AMD processor's vector width unused; oneDNN
uses all of it: 470 GFLOP/s instead of 210 on two cores of an EPYC with Zen 5.
"""

from __future__ import annotations

import torch
from torch import Tensor

_HAS_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
# A product of so many rows or fewer waits for memory, not for arithmetic.
WAITING = 2


def product(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``rows · weightᵀ + bias`` [..., o] for rows [..., i], weight [o, i] and bias [o], without autograd.

    With a weight (and bias) in bfloat16 the rows are rounded, and the result has their type again.
    In float32 on the processor by oneDNN, where torch has it; in all other cases by torch's own product.
    Both sum in float32: of the product of the norms, MKL's sums of 4,096 terms are off by 4e-9 and oneDNN's
    by 9e-9 (root mean square).
    """
    if weight.dtype == torch.bfloat16 != rows.dtype:
        return product(rows.to(weight.dtype), weight, bias).to(rows.dtype)
    large = rows.numel() > WAITING * rows.shape[-1] and weight.numel()
    if _HAS_ONEDNN and large and rows.dtype == torch.float32 and rows.device.type == "cpu":
        if not (weight.is_contiguous() or weight.T.is_contiguous()):
            weight = weight.contiguous()  # oneDNN refuses some views, and is slow with others
        made: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
        return made
    return torch.nn.functional.linear(rows, weight, bias)
