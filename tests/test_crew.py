"""Being connected to a Ray cluster."""

from __future__ import annotations

import sys

import pytest

from proponent.crew import LOCAL, connected
from proponent.errors import InputError


def test_without_ray_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    told = r"install it with: pip install 'proponent\[ray\]'"
    with pytest.raises(InputError, match=told), connected(LOCAL, 1):
        pass


@pytest.mark.parametrize("address", ["nowhere", "auto"])
def test_a_cluster_that_is_not_there_is_named(address: str) -> None:
    pytest.importorskip("ray", reason="Ray is not installed")
    told = rf"no Ray cluster at '{address}': .*; start one, or give the word local"
    with pytest.raises(InputError, match=told), connected(address, 1):
        pass
