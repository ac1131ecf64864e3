"""The verb that says what an index would cost before it is built."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import proponent as pp
from proponent.cli import options
from proponent.cli.options import choice, number, option, positive, verb
from proponent.cli.printing import show
from proponent.cli.runs import HESSIAN, MOMENTS, SIZE
from proponent.progress import OnStderr

DEVICE = option(
    "H100, H200, A100 or L4, by its data sheet; or cpu, cuda or mps, which is measured.", metavar="NAME"
)


@verb(
    epilog="With an accelerator's name the model's config.json is enough; nothing is loaded or measured. "
    "Otherwise some rows of the real model are indexed in a folder that is removed again. "
    "A --size with R_train is planned as two commands: proponent index for the full run and then "
    "proponent compact."
)
def plan(
    model: Annotated[str, option("Hugging Face model folder or hub id.", metavar="MODEL")],
    tokens: Annotated[int, number("Tokens of the corpus.")],
    passage_tokens: Annotated[int | None, number("Of a passage; by itself 512 or the most.", least=2)] = None,
    dim: Annotated[int, number("Feature dimension.")] = 2**16,
    layer_groups: Annotated[int, number("Groups of layers; each gives two blocks.")] = 8,
    second_moment: Annotated[str, MOMENTS] = "sample",
    hessian: Annotated[str | None, HESSIAN] = None,
    size: Annotated[str, SIZE] = "full",
    batch_tokens: Annotated[int, number("Tokens computed at once, padding included.")] = 2048,
    dtype: Annotated[str, choice("Of the matrix products.", "float32", "bfloat16")] = "float32",
    device: Annotated[str | None, DEVICE] = None,
    workers: Annotated[int, number("Machines alike that share the work.")] = 1,
    price: Annotated[float | None, positive("Of a worker's hour, in any money.")] = None,
    utilisation: Annotated[float, positive("Assumed share of an accelerator's peak.")] = 0.4,
    tf32: Annotated[bool, option("Float32 products of an accelerator in TF32.", "--tf32")] = False,
    cores: Annotated[int, number("Of a host with an accelerator.")] = 16,
    disk: Annotated[float, positive("GB a second of such a host's files.")] = 2.0,
    network: Annotated[float, positive("GB a second between workers.")] = 1.25,
    trust_remote_code: options.TrustRemoteCode = False,
    as_json: options.Json = False,
) -> None:
    """Tell what an index would cost: time, disk, memory, money.

    Stage by stage, from the model's configuration and the speed of a machine.
    """
    from proponent.scale.machines import Assumed

    spec = pp.FeatureSpec(model, dim, layer_groups, second_moment, batch_tokens=batch_tokens, dtype=dtype)
    spec = replace(spec, size=size)
    spec = spec if hessian is None else replace(spec, hessian=hessian)
    assumed = Assumed(utilisation, tf32, cores, disk=disk * 1e9, network=network * 1e9)
    made = pp.plan(
        spec, tokens, passage_tokens, device, workers, price, assumed, OnStderr(), trust_remote_code
    )
    show(made, made.values if as_json else None)
