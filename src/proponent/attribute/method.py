"""A gradient method is data: which corrections it makes and what it differentiates."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from proponent.errors import InputError
from proponent.gradients.spec import OUTPUTS
from proponent.index.mix import TaskMix
from proponent.index.scores import HESSIANS, InnerProduct

SECOND_MOMENTS = ("yes", "no", "any")


@dataclass(frozen=True)
class Method:
    """A gradient method.

    second_moment: ``yes`` or ``no`` says that the index's features must (not) be corrected by V;
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

    def fits(self, corrected: bool) -> bool:
        """Whether it is for features that were (not) corrected by second moments."""
        return self.second_moment == "any" or corrected == (self.second_moment == "yes")

    def check_features(self, corrected: bool) -> None:
        """Raise InputError where it is not for features that were (not) corrected by second moments."""
        if self.fits(corrected):
            return
        have, want = ("with", "none") if corrected else ("without", "sample")
        raise InputError(
            f"method '{self.name}' does not fit a run {have} second-moment correction; "
            f"index the corpus into another folder with --second-moment {want}"
        )


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
        Method("exact", hessian="train", projected=False),
    )
}
