"""Second moments, R and whitening against the indexing pass itself.

    python benchmarks/corrections.py MODEL CORPUS --passages 10000 --measured 1000

Builds a whole index of ``--measured`` passages and takes the seconds of its stages.  The pass, the sums of R
and the whitening grow with the passages and are scaled to ``--passages``; second moments, Cholesky factors
and eigenvalues do not, and count as they are.  Printed are both: as measured, and scaled.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from inputs import arguments, model_folder, passages
from side_by_side import machine
from stages import MOMENTS, StageClock

from proponent.attribute.indexing import build_index
from proponent.corpus.corpus import Corpus
from proponent.gradients.spec import FeatureSpec

PASS, SUMS, FACTORS, WHITENING = "gradients", "R_train", "Cholesky factors and eigenvalues", "whitening"
GROWING = (PASS, SUMS, WHITENING)
TARGET = 0.10


def main() -> None:
    """Build, and print the stages' seconds."""
    parser = arguments(__doc__)
    parser.add_argument("--passages", type=int, default=10000)
    parser.add_argument("--measured", type=int, default=10000, help="passages really indexed")
    parser.add_argument("--dim", type=int, default=2**16)
    parser.add_argument("--tokens", type=int, default=2048, help="tokens a batch")
    parser.add_argument("--dtype", default="float32")
    given = parser.parse_args()
    clock = StageClock()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        folder = model_folder(given.model, given.corpus, work)
        text = passages(given.corpus, given.measured, work / "passages.jsonl")
        spec = FeatureSpec(folder, dim=given.dim, batch_tokens=given.tokens, dtype=given.dtype)
        began = time.perf_counter()
        index = build_index(Corpus.read(str(text)), spec, work / "run", "cpu", clock)
        whole = time.perf_counter() - began
        tokens = int(index.summary["tokens"])
    print(
        f"{given.model}, d = {given.dim:,}, {given.dtype}: {len(index):,} passages, {tokens:,} tokens indexed"
    )
    scale = given.passages / given.measured
    scaled = {stage: seconds * (scale if stage in GROWING else 1) for stage, seconds in clock.seconds.items()}
    print(f"| stage | seconds | of the pass | for {given.passages:,} passages | of the pass |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for stage in (PASS, MOMENTS, SUMS, FACTORS, WHITENING):
        print_row(stage, clock.seconds[stage], scaled[stage], clock.seconds[PASS], scaled[PASS])
    both = [sum(times.values()) - times[PASS] for times in (clock.seconds, scaled)]
    print_row("all corrections", both[0], both[1], clock.seconds[PASS], scaled[PASS])
    print(f"Everything together took {whole:.1f} s.  The target is {TARGET:.0%} at most.  {machine()}")


def print_row(name: str, measured: float, scaled: float, measured_pass: float, scaled_pass: float) -> None:
    """One row: seconds and their share of the pass, as measured and scaled."""
    shares = f"{measured:.1f} | {measured / measured_pass:.1%} | {scaled:.1f} | {scaled / scaled_pass:.1%}"
    print(f"| {name} | {shares} |")


if __name__ == "__main__":
    main()
