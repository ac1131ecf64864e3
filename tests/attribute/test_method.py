"""Methods as data."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from proponent.attribute.method import METHODS, Method, corrected_by, method_for
from proponent.errors import InputError


def test_the_methods_of_the_comparison() -> None:
    fields = {name: {k: v for k, v in asdict(m).items() if k != "name"} for name, m in METHODS.items()}
    whole = {name for name, values in fields.items() if not values.pop("projected")}
    assert whole == {"exact"}
    assert fields == {
        "trackstar": {"second_moment": "yes", "hessian": "mixed", "unit_norm": True, "output": "loss"},
        "cosine": {"second_moment": "any", "hessian": "none", "unit_norm": True, "output": "loss"},
        "dot": {"second_moment": "any", "hessian": "none", "unit_norm": False, "output": "loss"},
        "trak": {"second_moment": "no", "hessian": "train", "unit_norm": False, "output": "margin"},
        "kronecker": {"second_moment": "white", "hessian": "mixed", "unit_norm": True, "output": "loss"},
        "exact": {"second_moment": "any", "hessian": "mixed", "unit_norm": True, "output": "loss"},
    }


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_known_by_its_name(name: str) -> None:
    assert Method.of(name) == METHODS[name]
    assert Method.of(name).name == name


def test_fields_of_a_method_can_be_changed() -> None:
    text = "trackstar,second_moment=any,hessian=train,unit_norm=no,output=logit"
    assert Method.of(text) == Method(text, "any", "train", False, "logit")
    assert Method.of("dot,unit_norm=yes").unit_norm is True


def test_changing_a_method_leaves_the_known_one_alone() -> None:
    Method.of("dot,hessian=train")
    assert METHODS["dot"].hessian == "none"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("best", "no method 'best'; known methods: trackstar, cosine, dot, trak, kronecker, exact"),
        ("", "no method ''"),
        ("TrackStar", "no method 'TrackStar'"),
        ("dot,", "'' is no change to a method; write FIELD=VALUE with one of second_moment, hessian,"),
        ("dot,hessian", "'hessian' is no change to a method"),
        ("dot,colour=red", "'colour=red' is no change to a method"),
        ("dot,name=cosine", "'name=cosine' is no change to a method"),
        ("dot,hessian=full", "hessian is 'full'; choose one of none, train, mixed"),
        ("dot,output=probability", "output is 'probability'; choose one of loss, margin, logit"),
        ("dot,second_moment=maybe", "second_moment is 'maybe'; choose one of yes, no, white, any"),
        ("dot,unit_norm=true", "unit_norm is 'true'; write unit_norm=yes or unit_norm=no"),
    ],
)
def test_what_is_no_method(text: str, complaint: str) -> None:
    with pytest.raises(InputError) as raised:
        Method.of(text)
    assert complaint in str(raised.value)
    assert "\n" not in str(raised.value)


RUNS = {
    "yes": [{"second_moment": moment, "hessian": "train"} for moment in ("sample", "/a/optimizer.pt")],
    "no": [{"second_moment": "none", "hessian": "train"}],
    "white": [
        {"second_moment": "kronecker", "hessian": "identity"},
        {"second_moment": "kronecker", "hessian": "train"},
        {"second_moment": "sample", "hessian": "identity"},
    ],
}


@pytest.mark.parametrize("kind", RUNS)
@pytest.mark.parametrize("second_moment", ["yes", "no", "white", "any"])
def test_a_method_says_which_features_suit_it(second_moment: str, kind: str) -> None:
    method = Method("m", second_moment=second_moment)
    for spec in RUNS[kind]:
        assert corrected_by(spec) == kind
        if second_moment in ("any", kind):
            method.check_features(spec)
            continue
        remedy = {"yes": "sample", "no": "none", "white": "kronecker"}[second_moment]
        with pytest.raises(InputError, match=f"does not fit a run with.*--second-moment {remedy}"):
            method.check_features(spec)


def test_the_method_of_a_run_is_the_papers_but_for_white_features() -> None:
    assert [method_for(specs[0]) for specs in RUNS.values()] == ["trackstar", "trackstar", "kronecker"]
