"""Compare the gradients of a function with numerical derivatives, of first and second order."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .. import autograd, modes, observers
from ..devices import default_device, to_numpy
from ..errors import CheckError, DTypeError, MinigradError
from ..nn.module import Module
from ..node import Node
from ..parameter import Parameter
from ..primitives.registry import Primitive
from ..tensor import Tensor, Version
from .numerical import COMPLEX_STEP, EPS, Arrays, NumericalDerivative, Verdict

# factors of the step of differences: a kink that a long one crosses, a short one may not
SHORTER = (1.0, 0.1, 0.01, 0.001)
BY_DIFFERENCES = 1e-6  # the relative tolerance of differences in float64
ALIKE = 1e3  # elements of a gradient that differ by a smaller factor are compared at once
HIDDEN = 1e-4  # times what the whole gradient is compared with: the tolerance of elements that are much smaller
MEANING = ". (cotangent . f) is the sum of the elements of f, each times a fixed random number"


def check_grad(
    f: Callable[..., Tensor],
    *inputs: Any,
    order: int = 2,
    seed: int = 0,
    rtol: float | None = None,
    step: float = 1e-3,
) -> None:
    """Raise CheckError unless the gradients of `f` at `inputs` are right.

    The result of f, of any shape, is contracted with a random cotangent: (cotangent . f) is the sum of its elements,
    each times a fixed random number. The gradient is compared with a numerical derivative along a random direction, or
    along several: elements that differ by a factor of 1000 or more are not compared at once, so that the large ones do
    not hide the others. Where that fails, it is compared element by element, to say where it is wrong. The second order
    does the same for (gradient . random direction), always by differences.
    Also checked: dtypes and shapes of gradients; that two runs
    agree bit for bit; that a zero cotangent gives zero and that the memory layout of the cotangent changes nothing;
    that gradients share memory neither with each other nor with the cotangent or the inputs; that nothing changes the
    inputs.

    Parameters
    ----------
    f : callable
        Takes the inputs as tensors, returns one floating tensor. It is called many times and must repeat itself.
    *inputs : Tensor, ndarray or Module
        The point, where f must be finite and smooth. Derivatives are taken with respect to all floating inputs, each of
        which f must use. Arrays keep their memory layout. float32 inputs are checked in float64 and then, loosely, in
        float32. Of a module f gets a copy, and its parameters are such inputs.
    order : {1, 2}
        The highest derivative to check.
    seed : int
        Of the random cotangent and directions.
    rtol : float, optional
        Relative tolerance; by default 1e-9 for the complex step, 1e-6 for differences, and 1.4e-3 where f computes in
        float32 whatever it gets.
    step : float, at least 1e-6
        The largest step of the differences; with shorter ones rounding would hide any error. Where a derivative differs
        from them, steps of a tenth, a hundredth and a thousandth decide: f may have a kink near the inputs, but not at
        them.

    Raises
    ------
    CheckError
        Names the input, the index, the value that was got and the one expected; or f is not finite at the inputs, has a
        kink there, or does not use one of them.

    Examples
    --------
    >>> import minigrad as mg
    >>> from minigrad.testing import check_grad
    >>> check_grad(lambda x, w: mg.tanh(x @ w), mg.tensor([[0.5, -1.0]]), mg.tensor([[1.0], [2.0]]))
    >>> check_grad(lambda model, x: mg.tanh(model(x)), mg.nn.Linear(2, 3), mg.tensor([[0.5, -1.0]]))
    >>> check_grad(lambda x: x * x.detach(), mg.tensor([3.0]))
    Traceback (most recent call last):
        ...
    minigrad.errors.CheckError: the first derivative of (cotangent . f) is wrong for input 0 at index (0,): got ...
    """
    if order not in (1, 2):
        raise ValueError(f"check_grad checks order 1 or 2, got order={order!r}")
    if not 1e-6 <= step < np.inf:
        raise ValueError(f"check_grad takes steps from 1e-6 on, got step={step!r}; shorter ones are lost in rounding")
    own = _Problem(f, inputs)
    given = own.arrays
    before = [a.tobytes() for a in given]
    problem = _Problem(f, inputs, double=True)
    before_trial = [a.tobytes() for a in problem.arrays]
    if not problem.wanted:
        got = ", ".join(f"{a.dtype.name} for {name}" for name, a in zip(own.names, own.arrays, strict=True)) or "none"
        raise DTypeError(
            f"check_grad needs at least one floating input, got {got}: give what is differentiated, tensors, arrays or "
            "modules, as check_grad(f, x), and f takes it as its arguments"
        )
    rng = np.random.default_rng(seed)
    value, analytic, eps = _trial(problem)
    _check_unchanged(problem.arrays, before_trial, problem.names)
    double = eps <= EPS
    _check_finite(value)
    u = rng.normal(size=value.shape).astype(value.dtype, copy=False)
    gradients = problem.gradients(u)
    for i, g in zip(problem.wanted, gradients, strict=True):
        for at in np.argwhere(~np.isfinite(g))[:1].tolist():
            raise CheckError(
                f"the gradient of {problem.names[i]} at index {tuple(at)} is {g[tuple(at)]}, where f is finite: f has "
                "no derivative there, or a rule is wrong"
            )
    _check_run(problem, u, gradients)
    _check_cotangents(problem, u, gradients)

    point = [problem.arrays[i] for i in problem.wanted]
    names = [problem.names[i] for i in problem.wanted]
    complex_step = analytic and _complex_step_works(problem)
    loose = rtol if rtol is not None else BY_DIFFERENCES if double else 4.0 * eps**0.5
    tolerance = 1e-9 if complex_step and rtol is None else loose
    # a shorter step is below the resolution of a function that goes through float32: it would find a derivative of 0
    steps = [step * factor for factor in SHORTER] if double else [step]
    weights = u.reshape(-1)
    reference = NumericalDerivative(
        lambda xs: problem.value(xs).reshape(-1), point, weights, complex_step, steps, eps
    )  # fmt: skip
    subject = "(cotangent . f)"
    _compare(f"the first derivative of {subject}", subject, gradients, names, reference, tolerance, rng)
    if order == 2:
        _check_second_order(problem, u, gradients, names, loose, steps, eps, rng)
    if any(given[i].dtype != np.float64 for i in problem.wanted):
        _check_own_precision(own, u, gradients)
    _check_unchanged(given, before, own.names)


class _Problem:
    """A function and the point it is differentiated at; `wanted` are the positions of the floating arrays."""

    def __init__(self, f: Callable[..., Tensor], inputs: Sequence[Any], double: bool = False) -> None:
        self.f = f
        # each with its parameters, to be made those that f is called with
        self.modules: dict[int, tuple[Module, list[Parameter]]] = {}
        self.names: list[str] = []
        sources: list[Any] = []
        for i, x in enumerate(inputs):
            if isinstance(x, Module):
                named = list(x.named_parameters())
                copied = copy.deepcopy(x)
                self.modules[i] = copied.to("float64") if double else copied, list(copied.parameters())
                self.names += [f"parameter {name} of input {i}" for name, _ in named]
                sources += [parameter for _, parameter in named]
            else:
                self.names.append(f"input {i}")
                sources.append(x)
        self.device = next((x.device for x in sources if isinstance(x, Tensor)), default_device())
        arrays = [np.asarray(to_numpy(x._array if isinstance(x, Tensor) else x)) for x in sources]
        if self.modules:  # the user's parameters are none that f may write into
            arrays = [a.copy("K") for a in arrays]
        self.arrays = [a.astype(np.float64, copy=False) if double and a.dtype.kind == "f" else a for a in arrays]
        self.wanted = [i for i, a in enumerate(arrays) if a.dtype.kind == "f"]
        self.count = len(inputs)

    def put(self, array: np.ndarray, requires_grad: bool = False) -> Tensor:
        """Wrap an array without copying it on the CPU, so that its memory layout reaches f."""
        data = self.device.xp.asarray(array)
        return Tensor._wrap(data, self.device, Node(data, self.device) if requires_grad else None, Version())

    def call(self, xs: Arrays | None, requires_grad: bool) -> tuple[Tensor, list[Tensor]]:
        """Return f with its floating inputs replaced by `xs`, and those inputs."""
        tensors = [self.put(a) for a in self.arrays]
        for k, i in enumerate(self.wanted):
            tensors[i] = self.put(self.arrays[i] if xs is None else xs[k], requires_grad)
        y = self.f(*self._arguments(tensors))
        if not isinstance(y, Tensor):
            raise DTypeError(f"check_grad needs a function that returns one tensor, got {type(y).__name__}")
        if y.dtype.kind not in "fc":
            raise DTypeError(f"check_grad needs a function with a floating result, got {y.dtype.name}")
        return y, [tensors[i] for i in self.wanted]

    def _arguments(self, tensors: list[Tensor]) -> list[Any]:
        """Return what f is called with: the tensors, and modules that have theirs as parameters."""
        remaining = iter(tensors)
        arguments: list[Any] = []
        for i in range(self.count):
            if i not in self.modules:
                arguments.append(next(remaining))
                continue
            module, parameters = self.modules[i]
            for p in parameters:
                x = next(remaining)
                p._array, p.device, p._node, p._version = x._array, x.device, x._node, x._version
            arguments.append(module)
        return arguments

    def value(self, xs: Arrays | None = None) -> np.ndarray:
        """Return f as an array, without gradients."""
        with modes.no_grad():
            return np.asarray(to_numpy(self.call(xs, requires_grad=False)[0]._array))

    def gradients(self, u: np.ndarray, xs: Arrays | None = None) -> list[np.ndarray]:
        """Return the gradients of (u . f) for every floating input: zeros where f does not depend on it."""
        with modes.enable_grad():
            y, leaves = self.call(xs, requires_grad=True)
        found: tuple[Tensor | None, ...] = (None,) * len(leaves)
        if y.requires_grad:
            found = autograd.grad(y, leaves, self.put(u.astype(y.dtype, copy=False)), allow_unused=True)
        return [_as_array(g, x) for g, x in zip(found, leaves, strict=True)]


def _as_array(g: Tensor | None, x: Tensor) -> np.ndarray:
    return np.zeros(x.shape, x.dtype) if g is None else np.asarray(to_numpy(g._array))


def _trial(problem: _Problem) -> tuple[np.ndarray, bool, float]:
    """Return f at the point, whether every primitive on the way is analytic, and the eps of the coarsest result.

    Raise where no primitive uses one of the inputs.
    """
    analytic, eps = True, EPS
    used: set[Version | None] = set()  # the memory of what was used: views have the version of their tensor

    def observe(primitive: Primitive, inputs: tuple, result: Tensor, metadata: dict) -> None:
        nonlocal analytic, eps
        analytic = analytic and primitive.samples.analytic
        if result.dtype.kind in "fc":
            eps = max(eps, float(np.finfo(result.dtype).eps))
        used.update(x._version for x in inputs if isinstance(x, Tensor))

    try:
        # an error says where it is not finite
        with modes.no_grad(), observers.observing(observe), np.errstate(all="ignore"):
            y, xs = problem.call(None, requires_grad=False)
    except DTypeError as error:
        if "do not mix" not in str(error):
            raise
        raise DTypeError(
            f"{error} -- check_grad runs f in float64: pass the tensors that f reaches as inputs, or make them float64"
        ) from error
    used.add(y._version)
    for i, x in zip(problem.wanted, xs, strict=True):
        if x._version not in used:
            raise CheckError(
                f"no operation in f uses {problem.names[i]}, so there is no derivative to check: f must compute with "
                "the arguments that it is called with (give a module as an input, too, not its parameters), and with "
                "tensors, not with values that float() or .numpy() read"
            )
    return np.asarray(to_numpy(y._array)), analytic, eps


def _complex_step_works(problem: _Problem) -> bool:
    """Return whether f runs on complex numbers: it may branch on values or convert dtypes."""
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("error", np.exceptions.ComplexWarning)
            value = problem.value([problem.arrays[i] + 1j * COMPLEX_STEP for i in problem.wanted])
    except (MinigradError, TypeError, ValueError, np.exceptions.ComplexWarning):
        return False
    return bool(np.isfinite(value).all())


# What must hold beside the values


def _check_unchanged(arrays: list[np.ndarray], before: list[bytes], names: list[str]) -> None:
    for a, old, name in zip(arrays, before, names, strict=True):
        if a.tobytes() != old:
            raise CheckError(f"{name} was changed by f or by its gradient; operations must leave their inputs alone")


def _check_finite(value: np.ndarray, where: str = "") -> None:
    finite = np.isfinite(value)
    if not finite.all():
        at = tuple(int(k) for k in np.argwhere(~finite)[0])
        raise CheckError(
            f"f is not finite at index {at} of its result{where}: {value[at]} ({int((~finite).sum())} of {finite.size} "
            "values are not finite); give points of its domain"
        )


def _check_run(problem: _Problem, u: np.ndarray, gradients: list[np.ndarray]) -> None:
    """Check dtypes, shapes, memory and repeatability of gradients that `problem.gradients(u)` gave."""
    for i, g in zip(problem.wanted, gradients, strict=True):
        x = problem.arrays[i]
        if g.shape != x.shape or g.dtype != x.dtype:
            raise CheckError(
                f"the gradient of {problem.names[i]} is {g.dtype.name}{list(g.shape)}, expected "
                f"{x.dtype.name}{list(x.shape)}"
            )
    labelled = [(f"the gradient of {problem.names[i]}", g) for i, g in zip(problem.wanted, gradients, strict=True)]
    others = [("the upstream gradient", u), *zip(problem.names, problem.arrays, strict=True)]
    for k, (name, g) in enumerate(labelled):
        for other, array in labelled[k + 1 :] + others:
            if np.shares_memory(g, array):
                raise CheckError(f"{name} shares memory with {other}; changing one in place would change both")
    for i, g, again in zip(problem.wanted, gradients, problem.gradients(u), strict=True):
        if g.tobytes() != again.tobytes():
            raise CheckError(
                f"two runs give different bits in the gradient of {problem.names[i]}; does f draw random numbers or "
                "keep state?"
            )


def _check_cotangents(problem: _Problem, u: np.ndarray, gradients: list[np.ndarray]) -> None:
    """Check a zero cotangent, and cotangents in other memory layouts."""
    for i, g in zip(problem.wanted, problem.gradients(np.zeros_like(u)), strict=True):
        if np.any(g != 0):
            raise CheckError(
                f"a zero upstream gradient gives {problem.names[i]} a gradient that is not zero: {g[g != 0][0]}"
            )
    constant = np.broadcast_to(np.float64(1.5), u.shape)
    for layout, cotangent, expected in (
        ("Fortran-ordered", np.asarray(u, order="F"), gradients),
        ("negative-stride", np.asarray(np.flip(np.flip(u).copy())), gradients),
        ("broadcast (stride 0)", constant, problem.gradients(constant.copy())),
    ):
        for i, g, e in zip(problem.wanted, problem.gradients(cotangent), expected, strict=True):
            # where a gradient cancels to 0, as softmax's does for equal cotangents, only its rounding is left
            if not _close(g, e, 1e-10, floor=1e-12):
                raise CheckError(
                    f"a {layout} upstream gradient gives {problem.names[i]} another gradient than a contiguous one"
                )


def _check_own_precision(problem: _Problem, u: np.ndarray, expected: list[np.ndarray]) -> None:
    """Check gradients in the dtype of the inputs against those in float64."""
    with np.errstate(all="ignore"):
        value = problem.value()
    _check_finite(value, f", computed in {value.dtype.name}")
    u = u.astype(value.dtype)
    gradients = problem.gradients(u)
    _check_run(problem, u, gradients)
    largest = max(float(np.max(np.abs(e), initial=0.0)) for e in expected)
    for i, g, e in zip(problem.wanted, gradients, expected, strict=True):
        rtol = 4.0 * float(np.finfo(g.dtype).eps) ** 0.5
        if not _close(g, e, rtol, floor=rtol * HIDDEN * largest):  # a gradient of 0 may be the rounding of larger ones
            worst = np.unravel_index(np.argmax(np.abs(g - e)), e.shape)
            at = tuple(int(k) for k in worst)
            raise CheckError(
                f"the {g.dtype.name} gradient of {problem.names[i]} at index {at} is {g[worst]:.7g}, far from "
                f"{e[worst]:.7g} in float64"
            )


def _close(a: np.ndarray, b: np.ndarray, rtol: float, floor: float = float(np.finfo(np.float64).tiny)) -> bool:
    scale = np.max(np.abs(b), initial=0.0)
    return bool(np.all(np.abs(a - b) <= rtol * scale + floor))


def _directions(arrays: Arrays, rng: np.random.Generator) -> list[np.ndarray]:
    """Return random numbers of the shapes of `arrays`, none of them small."""
    return [rng.uniform(0.5, 1.0, a.shape) * rng.choice([-1.0, 1.0], a.shape) for a in arrays]


def _unit(arrays: Arrays, k: int, index: tuple[int, ...]) -> Arrays:
    """Return zeros of the shapes of `arrays`, with a 1 in the k-th at `index`."""
    unit = [np.zeros(a.shape) for a in arrays]
    unit[k][index] = 1.0
    return unit


def _compare(
    what: str,
    subject: str,
    got: Arrays,
    names: list[str],
    reference: NumericalDerivative,
    rtol: float,
    rng: np.random.Generator,
) -> None:
    """Compare along random directions; when that fails, find the element that is most wrong and raise.

    `what` is the derivative that is compared, and `subject` the function that it is the derivative of.
    """
    whole = reference.representable(_directions(got, rng))
    total = sum(np.sum(np.abs(g * d)) for g, d in zip(got, whole, strict=True))
    for direction in _alike(got, whole):
        slope = float(sum(np.sum(g * d) for g, d in zip(got, direction, strict=True)))
        scale = float(sum(np.sum(np.abs(g * d)) for g, d in zip(got, direction, strict=True)) + HIDDEN * total)
        along = reference.judge(slope, direction, rtol, scale)
        if reference.complex_step and not along.right:
            differences = replace(reference, complex_step=False)
            second = differences.judge(slope, direction, max(rtol, BY_DIFFERENCES), scale)
            # NumPy computes high powers of complex numbers in another way, at the cost of their imaginary parts
            if second.settled and not second.expected.near(along.expected.value, BY_DIFFERENCES, scale):
                reference, along, rtol = differences, second, max(rtol, BY_DIFFERENCES)
        if not along.right:
            break
    else:
        return
    method = "complex step" if reference.complex_step else "central differences"
    wrong = []
    for k, (g, d) in enumerate(zip(got, direction, strict=True)):
        for index in map(tuple, np.argwhere(d).tolist()):
            unit = reference.representable(_unit(got, k, index))
            length = float(unit[k][index])
            verdict = reference.judge(float(g[index]) * length, unit, rtol, 0.0)
            if not verdict.right:
                element = verdict.expected.value / length
                size = max(abs(element), abs(float(g[index])))
                relative = abs(float(g[index]) - element) / size if size else 0.0
                wrong.append((relative if np.isfinite(relative) else np.inf, k, index, verdict, element))
    if not wrong:
        if not along.settled:  # the random direction crosses a kink even with the shortest step; the axes do not
            return
        raise CheckError(
            f"{what} is wrong along a random direction: got {slope:.10g}, expected {along.expected.value:.10g} "
            f"({method}){_doubt(along, reference)}{MEANING}"
        )
    relative, k, index, verdict, element = max(wrong, key=lambda w: w[0])
    expected = verdict.expected
    kink = ""
    if not reference.complex_step:
        kink = reference.kink(_unit(got, k, index), [expected.step] if verdict.settled else reference.steps)
    if expected.step != reference.steps[0]:
        method += f" with step {expected.step:g}"
    place = f"for {names[k]} at index {index}"
    value = f"{float(got[k][index]):.10g}"
    counted = f"{len(wrong)} of {sum(g.size for g in got)} elements"
    if kink:
        raise CheckError(
            f"{what} cannot be checked {place}: there {subject} {kink}. So f is not smooth there, as at a kink: move "
            f"the inputs away from it. (The derivative is {value}, and {method} give {element:.10g}; {counted} "
            f"differ){MEANING}"
        )
    raise CheckError(
        f"{what} is wrong {place}: got {value}, expected {element:.10g} ({method}), relative error {relative:.2g}; "
        f"{counted} are wrong{_doubt(verdict, reference)}{MEANING}"
    )


def _alike(got: Arrays, direction: Arrays) -> list[list[np.ndarray]]:
    """Return the parts of a direction along which the elements of a gradient are about equally large."""
    sizes = [np.abs(g).astype(np.float64) for g in got]
    largest = max((float(np.max(s, initial=0.0)) for s in sizes), default=0.0)
    if not largest:
        return [list(direction)]
    with np.errstate(divide="ignore", under="ignore"):
        ranks = [np.minimum(np.floor(-np.log(s / largest) / np.log(ALIKE)), 5.0) for s in sizes]
    kinds = sorted({float(rank) for r in ranks for rank in r.flat})
    return [[np.where(r == rank, d, 0.0) for r, d in zip(ranks, direction, strict=True)] for rank in kinds]


def _doubt(verdict: Verdict, reference: NumericalDerivative) -> str:
    """Return a sentence for where a kink near the inputs would look like a wrong derivative."""
    if not verdict.undecided:
        return ""
    return (
        f", unless f has a kink within {reference.steps[0]:g} of the inputs: shorter steps are lost in rounding, "
        "because the values of f are so much larger than their changes"
    )


def _check_second_order(
    problem: _Problem,
    u: np.ndarray,
    gradients: list[np.ndarray],
    names: list[str],
    rtol: float,
    steps: Sequence[float],
    eps: float,
    rng: np.random.Generator,
) -> None:
    """Check the gradient of (first gradient . random direction), also with respect to the upstream gradient."""
    direction = _directions(gradients, rng)
    cotangent = problem.put(u.copy(), requires_grad=True)
    with modes.enable_grad():
        y, leaves = problem.call(None, requires_grad=True)
        found: tuple[Tensor | None, ...] = (None,) * len(leaves)
        if y.requires_grad:
            found = autograd.grad(y, leaves, cotangent, create_graph=True, allow_unused=True)
        for i, x, g, ordinary in zip(problem.wanted, leaves, found, gradients, strict=True):
            if not _close(_as_array(g, x), ordinary, 1e-12):
                raise CheckError(f"the gradient of {problem.names[i]} changes with create_graph=True")
        variables = [*leaves, cotangent]
        parts = [(g * problem.put(d)).sum() for g, d in zip(found, direction, strict=True) if g is not None]
        second: tuple[Tensor | None, ...] = (None,) * len(variables)
        if any(p.requires_grad for p in parts):
            second = autograd.grad([p for p in parts if p.requires_grad], variables, allow_unused=True)
    got = [_as_array(g, x) for g, x in zip(second, variables, strict=True)]

    def evaluate(point: Arrays) -> np.ndarray:
        return np.concatenate([g.reshape(-1) for g in problem.gradients(point[-1], point[:-1])])

    weights = np.concatenate([d.reshape(-1) for d in direction])
    point = [*(problem.arrays[i] for i in problem.wanted), u]
    reference = NumericalDerivative(evaluate, point, weights, False, steps, eps)
    _compare(
        "the second derivative",
        "the first derivative",
        got,
        [*names, "the upstream gradient"],
        reference,
        rtol,
        rng,
    )
