from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proponent.corpus.repeats import BUCKET_IN_MEMORY, BUCKETS, DIGEST, IdDigests, digest_of


@given(st.lists(st.text(max_size=3)))
def test_what_is_found_was_added_twice_and_nothing_is_missed(ids: list[str]) -> None:
    with IdDigests() as digests:
        for id in ids:
            digests.add(id)
        found = digests.repeated()
    twice = {digest_of(id) for id in ids if ids.count(id) > 1}
    assert found <= twice
    assert bool(found) == bool(twice)


def test_a_repeat_is_found_among_ids_that_went_to_disk() -> None:
    count = 2 * BUCKETS * BUCKET_IN_MEMORY // DIGEST
    with IdDigests() as digests:
        for n in range(count):
            digests.add(str(n))
        assert digests.repeated() == set()
        digests.add("7")
        assert digests.repeated() == {digest_of("7")}
