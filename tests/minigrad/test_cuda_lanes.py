"""Which launches of a step run side by side on a GPU: never two of which one needs the other."""

from hypothesis import given
from hypothesis import strategies as st

from minigrad.program.cuda.lanes import Use, needs, places

MEMORIES = st.frozensets(st.integers(0, 5), max_size=3)
USES = st.lists(st.builds(Use, MEMORIES, MEMORIES, st.booleans()), max_size=25)


def happens_before(found):
    """For each launch those that are surely done when it starts: earlier in its lane, or waited for, and so on."""
    done = []
    last = {}
    for i, place in enumerate(found):
        before = {last[place.lane]} if place.lane in last else set()
        before |= set(place.waits)
        done.append(before.union(*(done[j] for j in before)))
        last[place.lane] = i
    return done


@given(uses=USES, most=st.integers(1, 4))
def test_every_need_is_waited_for(uses, most):
    found = places(uses, most)
    assert all(0 <= place.lane < most and all(j < i for j in place.waits) for i, place in enumerate(found))
    assert all(place.lane == 0 for use, place in zip(uses, found, strict=True) if use.first_lane)
    for needed, done in zip(needs(uses), happens_before(found), strict=True):
        assert needed <= done


@given(uses=USES)
def test_needs_are_those_of_the_memory(uses):
    """Two launches may change places exactly if neither writes what the other touches; the rest follows by chains."""
    closed = []
    for i, before in enumerate(needs(uses)):
        closed.append(before.union(*(closed[j] for j in before)))
        for j in range(i):
            a, b = uses[j], uses[i]
            if a.writes & (b.reads | b.writes) or a.reads & b.writes:
                assert j in closed[i]


def test_two_products_of_one_gradient_run_side_by_side():
    delta = Use(frozenset({"x"}), frozenset({"delta"}))
    for_weights = Use(frozenset({"h", "delta"}), frozenset({"dw"}))
    for_input = Use(frozenset({"w", "delta"}), frozenset({"dh"}))
    update = Use(frozenset({"dw", "w"}), frozenset({"w"}))
    found = places([delta, for_weights, for_input, update], 3)
    assert found[1].lane != found[2].lane
    # the update needs both: w is still read by one of them
    assert {found[3].lane, *(found[i].lane for i in found[3].waits)} == {found[1].lane, found[2].lane}
