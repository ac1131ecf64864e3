from typing import Any

from numpy.typing import NDArray

def multiply(
    planes: NDArray[Any],
    codes: NDArray[Any],
    steps: NDArray[Any],
    scales: NDArray[Any],
    made: NDArray[Any],
    bits: int,
    words: int,
    at: int,
    /,
) -> None: ...
