from typing import Any

from numpy.typing import NDArray

ROWS: int

def count_differences(
    planes: NDArray[Any],
    codes: NDArray[Any],
    made: NDArray[Any],
    bits: int,
    words: int,
    first: int,
    stop: int,
    /,
) -> None: ...
