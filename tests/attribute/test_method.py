"""Methods as data."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from proponent.attribute.method import METHODS, Method
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
        "exact": {"second_moment": "any", "hessian": "train", "unit_norm": True, "output": "loss"},
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
        ("best", "no method 'best'; known methods: trackstar, cosine, dot, trak, exact"),
        ("", "no method ''"),
        ("TrackStar", "no method 'TrackStar'"),
        ("dot,", "'' is no change to a method; write FIELD=VALUE with one of second_moment, hessian,"),
        ("dot,hessian", "'hessian' is no change to a method"),
        ("dot,colour=red", "'colour=red' is no change to a method"),
        ("dot,name=cosine", "'name=cosine' is no change to a method"),
        ("dot,hessian=full", "hessian is 'full'; choose one of none, train, mixed"),
        ("dot,output=probability", "output is 'probability'; choose one of loss, margin, logit"),
        ("dot,second_moment=maybe", "second_moment is 'maybe'; choose one of yes, no, any"),
        ("dot,unit_norm=true", "unit_norm is 'true'; write unit_norm=yes or unit_norm=no"),
    ],
)
def test_what_is_no_method(text: str, complaint: str) -> None:
    with pytest.raises(InputError) as raised:
        Method.of(text)
    assert complaint in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("second_moment", "corrected", "suits"),
    [
        ("yes", True, True),
        ("yes", False, False),
        ("no", True, False),
        ("no", False, True),
        ("any", True, True),
        ("any", False, True),
    ],
)
def test_a_method_says_which_features_suit_it(second_moment: str, corrected: bool, suits: bool) -> None:
    method = Method("m", second_moment=second_moment)
    if suits:
        method.check_features(corrected)
        return
    remedy = "--second-moment sample" if second_moment == "yes" else "--second-moment none"
    with pytest.raises(InputError, match=remedy):
        method.check_features(corrected)
