"""Random expressions: value, gradient, Hessian-vector product, recording and compiling, each against something simpler.

`HYPOTHESIS_PROFILE=random` draws new ones; MINIGRAD_PROGRAMS sets how many.
"""

import os

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad.program.passes import simplify
from minigrad.testing.strategies import Expression, expressions

COUNT = int(os.environ.get("MINIGRAD_PROGRAMS", "60"))
STEP = 1e-30  # of the complex step: no difference is taken, so there is no rounding to balance


def directional(f, direction):
    """The derivative of f.numpy at its leaves along `direction`, by complex step."""
    return np.imag(f.numpy(*[x + 1j * STEP * d for x, d in zip(f.leaves, direction, strict=True)])) / STEP


def gradient(f, leaves):
    found = mg.grad(f, argnums=tuple(range(len(leaves))))(*map(mg.tensor, leaves))
    return [g.numpy() for g in found]


@settings(max_examples=COUNT)
@given(f=expressions(), seed=st.integers(0, 1000))
def test_value_gradient_and_hessian_vector_product(f, seed):
    rng = np.random.default_rng(seed)
    direction = [rng.normal(size=x.shape) for x in f.leaves]
    value = f(*map(mg.tensor, f.leaves)).item()
    np.testing.assert_allclose(value, f.numpy(*f.leaves), rtol=1e-11, atol=1e-11)
    g = gradient(f, f.leaves)
    along = sum(float((a * d).sum()) for a, d in zip(g, direction, strict=True))
    size = sum(float(abs(a * d).sum()) for a, d in zip(g, direction, strict=True))
    np.testing.assert_allclose(along, directional(f, direction), rtol=1e-10, atol=1e-11 * (1 + size))

    # Hessian times direction: the gradient of (gradient . direction), against differences of the gradient
    xs = [mg.tensor(x, requires_grad=True) for x in f.leaves]
    first = mg.autograd.grad(f(*xs), xs, create_graph=True, allow_unused=True)
    terms = [(a * mg.tensor(d)).sum() for a, d in zip(first, direction, strict=True) if a is not None]
    dot = sum(terms, start=mg.tensor(0.0, dtype="float64"))
    if not dot.requires_grad:
        second = [np.zeros(x.shape) for x in f.leaves]
    else:
        found = mg.autograd.grad(dot, xs, allow_unused=True)
        second = [np.zeros(x.shape) if h is None else h.numpy() for h, x in zip(found, xs, strict=True)]
    h = 1e-5
    plus, minus = (gradient(f, [x + s * h * d for x, d in zip(f.leaves, direction, strict=True)]) for s in (1, -1))
    for exact, p, m in zip(second, plus, minus, strict=True):
        scale = 1 + np.max(np.abs(p), initial=0) + np.max(np.abs(exact), initial=0)
        # h^2 times third derivatives, and rounding / h
        np.testing.assert_allclose(exact, (p - m) / (2 * h), rtol=1e-4, atol=1e-5 * scale)


@settings(max_examples=COUNT)
@given(f=expressions())
def test_what_is_simplified_has_the_plan_of_the_compiled_step(f):
    program = mg.record(mg.grad(f, argnums=tuple(range(len(f.leaves)))))(*map(mg.tensor, f.leaves))
    simple = simplify(program)
    assert str(simplify(simple)) == str(simple)
    assert str(program.plan()) == str(simple.plan())


def mixed_layouts():
    """Found by drawing: a cotangent in Fortran order was added to in place, where a program makes one in C order."""
    f = Expression([np.array(-0.6), np.linspace(-1.0, 1.3, 6).reshape(2, 3) ** 3])
    f.steps = [("cumsum", (1,)), ("add", (2, 0)), ("cumsum", (3,)), ("add", (4, 4)), ("row", (5,)), ("divide", (5, 6))]
    f.steps += [("transpose", (7,)), ("add", (8, 8))]
    return f


@settings(max_examples=COUNT)
@example(f=mixed_layouts())
@given(f=expressions())
def test_recorded_and_compiled_gradients_have_the_bits_of_eager_ones(f):
    both = mg.value_and_grad(f, argnums=tuple(range(len(f.leaves))))
    xs = [mg.tensor(x) for x in f.leaves]
    ys = [mg.tensor(x * 0.5 + 0.1) for x in f.leaves]
    program = mg.record(both)(*xs)
    program.check()
    compiled = mg.compile(both, kernels=False)
    compiled(*xs)
    for arguments in (xs, ys):
        value, gradients = both(*arguments)
        for run in (program, compiled):
            again, others = run(*arguments)
            assert again.item() == value.item()
            for a, b in zip(gradients, others, strict=True):
                np.testing.assert_array_equal(a.numpy(), b.numpy())
