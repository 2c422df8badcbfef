"""A state machine: the engine against a naive one: build, backward, retain, assign, detach, no_grad in any order."""

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

import minigrad as mg
from minigrad.errors import GraphError

# name -> the operation on tensors, on arrays, its derivatives, and which of its inputs and results backward reads
OPERATIONS = {
    "add": (lambda a, b: a + b, lambda a, b: a + b, lambda a, b, y: (1.0, 1.0), ""),
    "multiply": (lambda a, b: a * b, lambda a, b: a * b, lambda a, b, y: (b, a), "ab"),
    "subtract": (lambda a, b: a - b, lambda a, b: a - b, lambda a, b, y: (1.0, -1.0), ""),
    "tanh": (lambda a, b: mg.tanh(a), lambda a, b: np.tanh(a), lambda a, b, y: (1 - y * y, None), ""),
    "square": (lambda a, b: mg.square(a), lambda a, b: a * a, lambda a, b, y: (2 * a, None), "a"),
}


class Naive:
    """A value with its history; derivatives by recursion over all paths."""

    def __init__(self, value, parents=(), slopes=(), saved=(), requires_grad=False):
        self.value = value
        self.parents = parents
        self.slopes = slopes
        self.saved = saved  # leaves that backward reads, with their versions
        self.requires_grad = requires_grad
        self.version = 0
        self.released = False
        self.grad = None

    def history(self):
        """This value and all that gradients flow to from it."""
        found, stack = [], [self]
        while stack:
            node = stack.pop()
            if node not in found:
                found.append(node)
                stack += [p for p in node.parents if p.requires_grad]
        return found

    def derivative(self, leaf):
        if self is leaf:
            return np.ones_like(self.value)
        return sum(
            (slope * p.derivative(leaf) for p, slope in zip(self.parents, self.slopes, strict=True) if p.requires_grad),
            start=np.zeros_like(self.value),
        )

    def usable(self, target=None):
        """Return whether backward can run: to all leaves, or to the target, for which it needs what leads there."""
        needed = [n for n in self.history() if target is None or (n is not target and target in n.history())]
        return not any(n.released or any(leaf.version != v for leaf, v in n.saved) for n in needed)


class Engine(RuleBasedStateMachine):
    """Pairs of a tensor and its naive twin. Elementwise on vectors of three, so that slopes are vectors."""

    pairs = Bundle("pairs")
    leaves = Bundle("leaves")
    results = Bundle("results")  # of operations

    def __init__(self):
        super().__init__()
        self.all_leaves = []

    @initialize(targets=(leaves, pairs))
    def first_leaf(self):
        return self._leaf(0.5)

    @rule(targets=(leaves, pairs), value=st.floats(-1.5, 1.5), requires_grad=st.booleans())
    def new_leaf(self, value, requires_grad):
        return self._leaf(value, requires_grad)

    def _leaf(self, value, requires_grad=True):
        values = np.array([value, -value, 0.25])
        pair = mg.tensor(values, requires_grad=requires_grad), Naive(values, requires_grad=requires_grad)
        self.all_leaves.append(pair)
        return pair

    @rule(targets=(pairs, results), name=st.sampled_from(sorted(OPERATIONS)), a=pairs, b=pairs, tracked=st.booleans())
    def operate(self, name, a, b, tracked):
        on_tensors, on_arrays, slopes, saves = OPERATIONS[name]
        (ta, na), (tb, nb) = a, b
        if max(abs(na.value).max(), abs(nb.value).max()) > 1e3 or len(na.history()) + len(nb.history()) > 14:
            a = b = self._leaf(0.5)
            (ta, na), (tb, nb) = a, b
        if tracked:
            t = on_tensors(ta, tb)
        else:
            with mg.no_grad():
                t = on_tensors(ta, tb)
        y = on_arrays(na.value, nb.value)
        used = [(na, "a"), (nb, "b")] if slopes(na.value, nb.value, y)[1] is not None else [(na, "a")]
        requires = tracked and any(n.requires_grad for n, _ in used)
        saved = [(n, n.version) for n, letter in used if letter in saves and not n.parents]
        d = slopes(na.value, nb.value, y)[: len(used)]
        twin = Naive(y, [n for n, _ in used] if requires else [], d if requires else [], saved, requires)
        assert t.requires_grad == requires
        return t, twin

    @rule(target=pairs, pair=pairs)
    def detach(self, pair):
        t, n = pair
        twin = Naive(n.value)
        return mg.tensor(t.detach()), twin

    @rule(pair=results, retain=st.booleans())
    def backward(self, pair, retain):
        t, n = pair
        if not n.requires_grad:
            with pytest.raises(GraphError):
                t.backward(np.ones(3))
            return
        if not n.usable():
            with pytest.raises(GraphError):
                t.backward(np.ones(3), retain_graph=True)
            return
        t.backward(np.ones(3), retain_graph=retain)
        for node in n.history():
            if not node.parents:
                g = n.derivative(node)
                node.grad = g if node.grad is None else node.grad + g
            elif not retain:
                node.released = True

    @rule(pair=results, leaf=leaves)
    def grad(self, pair, leaf):
        (t, n), (x, leaf_twin) = pair, leaf
        if not n.requires_grad or not leaf_twin.requires_grad:
            return
        if not n.usable(leaf_twin):
            with pytest.raises(GraphError, match="released|changed"):
                mg.autograd.grad(t, x, np.ones(3), allow_unused=True)
            return
        (g,) = mg.autograd.grad(t, x, np.ones(3), create_graph=True, allow_unused=True)
        if leaf_twin not in n.history():
            assert g is None
        else:
            np.testing.assert_allclose(g.detach().numpy(), n.derivative(leaf_twin), rtol=1e-10, atol=1e-10)

    @rule(leaf=leaves, value=st.floats(-1.0, 1.0))
    def assign(self, leaf, value):
        x, twin = leaf
        x.assign(np.full(3, value))
        twin.value = np.full(3, value)
        twin.version += 1

    @rule(leaf=leaves)
    def zero_grad(self, leaf):
        x, twin = leaf
        if twin.requires_grad:
            x.grad = None
            twin.grad = None

    @invariant()
    def gradients_agree(self):
        for x, twin in self.all_leaves:
            np.testing.assert_array_equal(x.detach().numpy(), twin.value)
            if twin.grad is None:
                assert x.grad is None
            else:
                np.testing.assert_allclose(x.grad.numpy(), twin.grad, rtol=1e-10, atol=1e-10)


TestEngine = Engine.TestCase
TestEngine.settings = settings(max_examples=100, stateful_step_count=25, deadline=None)
