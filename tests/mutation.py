"""Mutation test of the derivative rules: `python -m tests.mutation [names...]`. It takes minutes; run it by hand.

Every rule in the table is changed in one place at a time: a sign, a factor or a term dropped, operands exchanged, a
constant moved, a function left out. The property tests of the rows that use it must then fail. Survivors are printed,
and the exit status tells whether there are any.
"""

import ast
import copy
import importlib
import inspect
import os
import sys
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad import tape
from minigrad.testing import check_grad
from minigrad.testing.strategies import primitive_inputs

FAMILIES = sorted(p.stem for p in Path(mg.primitives["add"].forward.__code__.co_filename).parent.glob("*.py"))
EXAMPLES = 40
# what the property test stays away from (ties, singular matrices, infinities) has tests of its own
EXAMPLES_BY_HAND = [
    Path(__file__).parent / "minigrad" / f"test_{name}.py"
    for name in ("pitfalls", "linalg", "more_operations", "tensor")
]

# (where, what) of mutants that compute the same, and why
EQUIVALENT = {
    ("_cholesky", "F.tril(g)"): "the lower triangle of L^T g does not see the upper one of g",
    ("_qr", "F.triu(_rows(F, g, rows, None))"): "R^T times g: what is below the diagonal meets zeros",
    ("_eigh", "v @ vt"): "the empty matrix only",
    ("_svd", "u @ vt"): "the empty matrix only",
    ("_eigh", "F.max(F.abs(w)"): "the scale of the threshold below which eigenvalues count as equal",
    ("_off_diagonal", "other sign"): "what it is applied to is divided by antisymmetric gaps, before and after",
    ("_svd", "used_u + used_v"): "decides only whether equal singular values are an error",
    ("_used", "F.abs(g)"): "decides only whether equal eigenvalues are an error",
    ("_power_base", "1.0  ->  1.5"): "the exponent where b = 0, and the result is multiplied by b",
    ("_power_exponent", "1.0  ->  1.5"): "the logarithm where a = 0, and the result is multiplied by 0^b = 0",
    ("_power_exponent", "0.0  ->  0.5"): "the logarithm where a = 0, and the result is multiplied by 0^b = 0",
    ("_index_set_rule", "v.ndim - picked.ndim"): "the engine brings a gradient to the shape of its input",
    ("_matmul_a", "F.squeeze(result, axis=-2)"): "the engine brings a gradient to the shape of its input",
    ("_softmax", "0.0  ->  0.5"): "the shift of a row of -inf, whose exponentials are 0 with any shift",
    ("_logaddexp_share", "zeros"): "only gives a number the dtype of an array",
    ("_nonzero", "1.0  ->  1.5"): "the denominator where the numerator is 0",
}


def mutants_of(tree):
    """Yield (description, changed tree) for every single change inside an expression or function."""
    nodes = list(ast.walk(tree))
    for index, node in enumerate(nodes):
        for what, change in changes(node):
            mutated = copy.deepcopy(tree)
            target = list(ast.walk(mutated))[index]
            replacement = change(target)
            yield f"{ast.unparse(node)}  ->  {what}", replace(mutated, target, replacement)


def changes(node):
    """Yield (what, function from the node to its replacement)."""
    if isinstance(node, ast.BinOp) and not isinstance(node.op, ast.BitOr):
        yield "left operand alone", lambda n: n.left
        yield "right operand alone", lambda n: n.right
        if isinstance(node.op, ast.Sub | ast.Div | ast.MatMult | ast.Pow):
            yield "operands exchanged", lambda n: ast.BinOp(n.right, n.op, n.left)
        if isinstance(node.op, ast.Add | ast.Sub):
            other = ast.Sub() if isinstance(node.op, ast.Add) else ast.Add()
            yield "other sign", lambda n: ast.BinOp(n.left, other, n.right)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and not isinstance(node.operand, ast.Constant):
        yield "no minus", lambda n: n.operand
    elif isinstance(node, ast.Constant) and isinstance(node.value, float):
        yield f"{node.value + 0.5}", lambda n: ast.Constant(n.value + 0.5)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
        function = node.func.attr
        if getattr(node.func.value, "id", "") == "F" and function not in ("broadcast_to", "zeros_like", "getitem"):
            yield "its first argument", lambda n: n.args[0]


class _Replace(ast.NodeTransformer):
    def __init__(self, target, replacement):
        self.target, self.replacement = target, replacement

    def visit(self, node):
        return self.replacement if node is self.target else super().visit(node)


def replace(tree, target, replacement):
    return ast.fix_missing_locations(_Replace(target, replacement).visit(tree))


def _names(tree):
    return {x.id for x in ast.walk(tree) if isinstance(x, ast.Name)}


def rules_of(module):
    """Yield (name, tree, install, rows): a rule or helper, how to put a changed one in place, and which rows use it."""
    tree = ast.parse(inspect.getsource(module))
    functions = {n.name: n for n in tree.body if isinstance(n, ast.FunctionDef)}
    uses = {
        name: {x.id for x in ast.walk(f) if isinstance(x, ast.Name)} & set(functions) for name, f in functions.items()
    }
    rows = {}
    for n in tree.body:
        if (
            isinstance(n, ast.Assign)
            and isinstance(n.value, ast.Call)
            and getattr(n.value.func, "id", "") == "primitive"
        ):
            vjps = next((k.value for k in n.value.keywords if k.arg == "vjps"), None)
            if vjps is not None:
                rows[n.value.args[0].value] = vjps
    reached = {}
    for name, vjps in rows.items():
        pending = list(_names(vjps) & set(functions))
        seen = set()
        while pending:
            f = pending.pop()
            if f not in seen:
                seen.add(f)
                pending += uses[f]
        for f in seen:
            reached.setdefault(f, []).append(name)

    def into_row(name):
        def install(changed):
            row = mg.primitives[name]
            row.vjps = eval(compile(ast.Expression(changed), "<mutant>", "eval"), module.__dict__)
            row.rule_for_any = row.vjps if callable(row.vjps) else None

        return install

    def into_module(changed):
        exec(compile(ast.Module([changed], []), "<mutant>", "exec"), module.__dict__)
        for name, vjps in rows.items():  # rows that hold the function itself
            into_row(name)(ast.fix_missing_locations(copy.deepcopy(vjps)))

    for name, vjps in rows.items():
        if not isinstance(vjps, ast.Constant):
            yield name, vjps, into_row(name), [name]
    for f, users in sorted(reached.items()):
        yield f, functions[f], into_module, users


def survives(install, changed, rows):
    """Return whether the tests of the rows pass with the mutant: in a child process, which keeps it to itself."""
    pid = os.fork()
    if pid == 0:
        for stream in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
        try:
            install(changed)
            for name in rows:
                run(mg.primitives[name])
            if pytest.main(["-x", "-q", "-W", "ignore", "-p", "no:cacheprovider", *map(str, EXAMPLES_BY_HAND)]):
                os._exit(1)
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitpid(pid, 0)[1] == 0


def run(row):
    @settings(
        max_examples=EXAMPLES,
        database=None,
        derandomize=True,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def test(data):
        inputs, metadata = data.draw(primitive_inputs(row))
        if "dtype" in metadata:
            metadata["dtype"] = "float64"
        check_grad(lambda *xs: tape.apply(row, *xs, **metadata), *inputs)
        if row.elementwise and row.arity == 2:  # a Python number on either side has branches of its own
            for c in (2, 1.7):
                check_grad(partial(tape.apply, row, c), inputs[1])
                check_grad(lambda x, c=c: tape.apply(row, x, c), inputs[0])
            if row.name == "power":
                check_grad(lambda x: tape.apply(row, x, 0), inputs[0])

    test()
    if row.samples.ties:  # what the property test stays away from: equal values share the gradient
        x = mg.tensor([[1.0, 1.0, 0.0]], requires_grad=True)
        if row.arity == 2:
            y = mg.tensor([[1.0, 1.0, 0.0]], requires_grad=True)
            row(x, y).sum().backward()
            assert (x.grad.numpy() == 0.5).all() and (y.grad.numpy() == 0.5).all()
        elif row.name in ("max", "min"):
            (row(x, axis=1) if row.name == "max" else row(-x, axis=1)).sum().backward()
            assert abs(x.grad.numpy()).tolist() == [[0.5, 0.5, 0.0]]


def main(wanted):
    if not survives(lambda changed: None, None, ["multiply"]):
        raise SystemExit("the tests fail without a mutant: mend that first")
    killed, survivors = 0, []
    for family in FAMILIES:
        if family in ("__init__", "registry", "random"):
            continue
        module = importlib.import_module(f"minigrad.primitives.{family}")
        for name, tree, install, rows in rules_of(module):
            if wanted and name not in wanted and family not in wanted:
                continue
            for description, changed in mutants_of(tree):
                if any(name == place and text in description for place, text in EQUIVALENT):
                    continue
                if survives(install, changed, rows):
                    survivors.append(f"{family}.{name}: {description}")
                    print("SURVIVES", survivors[-1], flush=True)
                else:
                    killed += 1
        print(f"{family}: {killed} killed so far, {len(survivors)} survive", flush=True)
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(set(sys.argv[1:])))
