"""A gradient method is data: which corrections it makes and what it differentiates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from proponent.errors import InputError
from proponent.gradients.spec import OUTPUTS
from proponent.index.mix import TaskMix
from proponent.index.scores import HESSIANS, InnerProduct

SECOND_MOMENTS = ("yes", "no", "white", "any")
# What a run is called, and what makes one that a method asks for, by how its features are corrected.
CORRECTED = {
    "yes": "with rank-one second moments and R_train",
    "no": "without second-moment correction",
    "white": "with Kronecker second moments, or R_train as the identity",
}
MADE_BY = {"yes": "sample", "no": "none", "white": "kronecker"}


@dataclass(frozen=True)
class Method:
    """A gradient method.

    second_moment: ``yes`` or ``no`` says that the index's features must (not) be corrected, by a rank-one V
        and R_train; ``white`` that they must be by Kronecker factors, or have R_train as the identity;
        ``any`` takes the index as it is.
    hessian: ``none``, ``train`` (R_train) or ``mixed`` (with a task: λR_eval + (1 − λ)R_train;
        without one: R_train).
    unit_norm: whether gradients are scaled to unit norm under that Hessian.
    output: function of a query's target tokens whose gradient is taken.
    projected: whether scores are of projected gradients; else they are of whole ones, by a pass over all
        passages (``attribute/exact.py``).
    """

    name: str
    second_moment: str = "any"
    hessian: str = "none"
    unit_norm: bool = True
    output: str = "loss"
    projected: bool = True

    def __post_init__(self) -> None:
        for field, choices in (("second_moment", SECOND_MOMENTS), ("hessian", HESSIANS), ("output", OUTPUTS)):
            value, known = getattr(self, field), ", ".join(choices)
            if value not in choices:
                raise InputError(f"method '{self.name}': {field} is '{value}'; choose one of {known}")

    @classmethod
    def of(cls, text: str) -> Method:
        """A method by name, or changed in some fields: ``trackstar,hessian=none,unit_norm=no``.

        Raises InputError naming the known methods and fields.
        """
        name, *changes = text.split(",")
        if name not in METHODS:
            raise InputError(f"no method '{name}'; known methods: {', '.join(METHODS)}")
        return replace(METHODS[name], **dict(_change(change) for change in changes), name=text)

    def inner_product(self, mix: TaskMix | None = None) -> InnerProduct:
        """How it compares queries and passages; mix: of a task, for a method whose Hessian is mixed."""
        return InnerProduct(self.hessian, self.unit_norm, mix if self.hessian == "mixed" else None)

    def fits(self, spec: Mapping[str, Any]) -> bool:
        """Whether it is for the features of a run of this spec."""
        return self.second_moment in ("any", corrected_by(spec))

    def check_features(self, spec: Mapping[str, Any]) -> None:
        """Raise InputError where it is not for the features of a run of this spec."""
        if self.fits(spec):
            return
        have, want = CORRECTED[corrected_by(spec)], MADE_BY[self.second_moment]
        raise InputError(
            f"method '{self.name}' does not fit a run {have}; take another, or index the corpus into another "
            f"folder with --second-moment {want}"
        )


def corrected_by(spec: Mapping[str, Any]) -> str:
    """How the features of a run of this spec are corrected, as ``Method.second_moment`` has it."""
    if spec["second_moment"] == "none":
        return "no"
    if spec["second_moment"] == "kronecker" or spec["hessian"] == "identity":
        return "white"
    return "yes"


def _change(text: str) -> tuple[str, Any]:
    field, equals, value = text.partition("=")
    known = [f.name for f in fields(Method) if f.name != "name"]
    if not equals or field not in known:
        raise InputError(
            f"'{text}' is no change to a method; write FIELD=VALUE with one of {', '.join(known)}"
        )
    if field not in ("unit_norm", "projected"):
        return field, value
    if value not in ("yes", "no"):
        raise InputError(f"{field} is '{value}'; write {field}=yes or {field}=no")
    return field, value == "yes"


METHODS = {
    method.name: method
    for method in (
        Method("trackstar", second_moment="yes", hessian="mixed"),
        Method("cosine"),
        Method("dot", unit_norm=False),
        Method("trak", second_moment="no", hessian="train", unit_norm=False, output="margin"),
        Method("kronecker", second_moment="white", hessian="mixed"),
        Method("exact", hessian="mixed", projected=False),
    )
}


def method_for(spec: Mapping[str, Any]) -> str:
    """The method of a run of this spec where none is named."""
    return "kronecker" if corrected_by(spec) == "white" else "trackstar"
