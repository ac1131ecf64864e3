from typing import Any

from numpy.typing import NDArray

ROWS: int

def add_products(
    vectors: NDArray[Any], codes: NDArray[Any], made: NDArray[Any], d: int, first: int, stop: int, /
) -> None: ...
