"""Kernels of elementwise groups: each computes all results of a group, or of several, in one pass over the arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

from ..groups import Group
from ..program import Variable
from .body import Body
from .kernel import BLOCK, MOST_BLOCKS, Kernel, named
from .random import PHILOX
from .source import c_type, helpers, loaded, stored_type, to_store
from .space import Space, coordinates, in_elements, offset

VECTOR = 16  # bytes: the widest access of a thread

VECTOR_TYPE = """\
template <class T, int N> struct alignas(sizeof(T) * N) Vector { T at[N]; };
"""


class Arrays:
    """The arrays of a body: which scalars are loaded from and stored to each, and its strides in the space of the loop.

    An array that is read and written is one.
    """

    def __init__(self, body: Body, strides: Mapping[Variable, tuple[int, ...]], shape: tuple[int, ...]) -> None:
        self.body = body
        self.variables = list(dict.fromkeys([*body.reads, *body.writes]))
        self.strides = [in_elements(v, strides, shape) for v in self.variables]
        # random numbers are counted in the order of rows, as if they came from an array
        rows = tuple(0 if n == 1 else prod(shape[i + 1 :]) for i, n in enumerate(shape))
        self.strides += [rows] * len(body.draws)
        self.draws = [draw.text for draw in body.draws]  # the functions that make them

    def declaration(self, position: int) -> str:
        """Return the parameter of an array, "const float* __restrict__ p0"."""
        v = self.variables[position]
        constant = "" if v in self.body.writes else "const "
        return f"{constant}{stored_type(v.dtype)}* __restrict__ p{position}"

    def single(self, position: int) -> bool:
        """Return whether an array is one number that is only read."""
        v = self.variables[position]
        return v not in self.body.writes and 0 not in v.shape and not any(self.strides[position])

    def load_singles(self) -> list[str]:
        """Return the statements that load the arrays of one number, before the loop."""
        return [self.load(i, f"p{i}[0]") for i in range(len(self.variables)) if self.single(i)]

    def load(self, position: int, element: str) -> str:
        """Return the statement that loads a scalar."""
        v = self.variables[position]
        return f"const {c_type(v.dtype)} {self.body.reads[v]} = {loaded(element, v.dtype)};"

    def store(self, position: int, element: str) -> str:
        """Return the statement that stores a result."""
        v = self.variables[position]
        return f"{element} = {to_store(self.body.writes[v], v.dtype)};"

    def step(
        self,
        places: Sequence[str],
        strides: Sequence[tuple[int, ...]],
        width: int,
        extra: Sequence[str] = (),
        wide: bool = True,
    ) -> list[str]:
        """Return the statements for `width` neighbouring places.

        Parameters
        ----------
        places : list of str
            The position of the (first) element in each array.
        strides : list of tuple of int
            In the space of the loop: 0 at the end says that neighbours read the same element. Those of random numbers
            follow those of arrays.
        width : int
        extra : list of str
            Statements after those of the body, for each neighbour `k`.
        wide : bool
            Whether neighbours are loaded and stored by one access.
        """
        before, inside, stores, after = [], [], [], []
        for draw, place in zip(self.body.draws, places[len(self.variables) :], strict=False):
            before.append(draw.make(place))
            inside.append(draw.take(place, width))
        for i, v in enumerate(self.variables):
            neighbours = width > 1 and strides[i] and strides[i][-1] == 1
            kind = f"Vector<{stored_type(v.dtype)}, {width}>"
            element = f"p{i}[{places[i]} + k]" if neighbours else f"p{i}[{places[i]}]"
            if v in self.body.reads and not self.single(i):
                if neighbours and wide:
                    before.append(f"const {kind} a{i} = *(const {kind}*)(p{i} + {places[i]});")
                inside.append(self.load(i, f"a{i}.at[k]" if neighbours and wide else element))
            if v in self.body.writes:
                if neighbours and wide:
                    before.append(f"{kind} r{i};")
                    after.append(f"*({kind}*)(p{i} + {places[i]}) = r{i};")
                stores.append(self.store(i, f"r{i}.at[k]" if neighbours and wide else element))
        inside += [*self.body.lines, *extra, *stores]
        if width == 1:
            return [*before, *inside]
        loop = ["#pragma unroll", f"for (int k = 0; k < {width}; ++k) {{", *(f"    {line}" for line in inside), "}"]
        return [*before, *loop, *after]

    def aligned(self, strides: Sequence[tuple[int, ...]], width: int) -> str:
        """Return the condition that accesses of `width` neighbours are possible at all."""
        tests = [
            f"(unsigned long long)p{i} % {width * v.dtype.itemsize} == 0"
            for i, v in enumerate(self.variables)
            if strides[i] and strides[i][-1] == 1
        ]
        return " && ".join(tests) or "true"

    def width(self, space: Space) -> int:
        """Return how many neighbours one access may take, by their size."""
        full = [v.dtype.itemsize for v, s in zip(self.variables, space.strides, strict=False) if any(s)]
        return min([max(1, VECTOR // max(full, default=VECTOR)), *(draw.count for draw in self.body.draws)])


class _Part:
    """One group as a device function of its arrays, of the number of its elements, and of a first index and a step.

    Attributes
    ----------
    variables : list of Variable
    types : list of str
        Of the pointers to their arrays.
    text : str
        The function from its parameters on: groups with equal texts share one.
    draws : list of str
        The functions that it calls for random numbers.
    size, work : int
        The number of places, and that of accesses, of which a thread makes one at a time.
    vectors : bool
        Whether an access may take several neighbours.
    unsigned : str
        The type of indices.
    """

    def __init__(self, group: Group, stored: set[Variable], roots: Mapping, strides: Mapping) -> None:
        assert group.shape is not None
        arrays = Arrays(Body(group.equations, stored, roots), strides, group.shape)
        space = Space(group.shape, arrays.strides)
        flat = len(space.lengths) <= 1 and all(s in ((), (0,), (1,)) for s in space.strides)
        self.variables, self.draws = arrays.variables, arrays.draws
        self.size = prod(group.shape)
        self.unsigned = "unsigned int" if space.index_type() == "int" else "unsigned long long"
        width = arrays.width(space)
        if flat:  # what is left over at the end goes one by one
            width = min(width, 1 << max(0, self.size.bit_length() - 1))
        else:
            width = space.vector(width, len(space.strides))
        self.vectors = width > 1
        self.work = -(-self.size // width)
        size = "n" if flat else str(self.size)  # a size that is no part of the text lets more groups share it
        lines = arrays.load_singles()
        if self.vectors:
            lines += [f"const bool wide = {arrays.aligned(space.strides, width)};", "if (wide) {"]
            lines += [f"    {line}" for line in self._loop(arrays, space, width, "start", f"{size} / {width}")]
            lines += ["}", f"const {self.unsigned} done = wide ? {size} / {width} * {width} : 0;"]
            lines += self._loop(arrays, space, 1, "done + start", size)
        else:
            lines += self._loop(arrays, space, 1, "start", size)
        declared = [arrays.declaration(i) for i in range(len(self.variables))]
        self.types = [text.rsplit(" ", 1)[0] for text in declared]
        parameters = [*declared, *(f"const {self.unsigned} {name}" for name in ("n", "start", "step"))]
        self.text = f"(\n    {', '.join(parameters)}) {{\n" + "".join(f"    {line}\n" for line in lines) + "}\n"

    def _loop(self, arrays: Arrays, space: Space, width: int, start: str, end: str) -> list[str]:
        """Return the loop over accesses of `width` neighbours each."""
        contiguous = _row_major(space.lengths)
        needed = {j for each in space.strides if each != contiguous for j, s in enumerate(each) if s}
        number = "i" if width == 1 else f"{width} * i"
        places = [number if each == contiguous else offset(each) for each in space.strides]
        body = coordinates("i", space.lengths, range(len(space.lengths)), needed, space.index_type(), width)
        body += arrays.step(places, space.strides, width)
        return [
            f"for ({self.unsigned} i = {start}; i < {end}; i += step) {{",
            *(f"    {line}" for line in body),
            "}",
        ]


def kernels(
    groups: Sequence[Group],
    stored: set[Variable],
    roots: Mapping[Variable, Variable],
    strides: Mapping[Variable, tuple[int, ...]] | None = None,
) -> list[Kernel]:
    """Return one kernel for groups that do not depend on each other, or none when there is nothing to compute.

    Every block belongs to one group. Groups with the same text up to their sizes, such as the updates of several
    parameters, share their code.
    """
    parts = [_Part(group, stored, roots, strides or {}) for group in groups if prod(group.shape or ())]
    parts = [part for part in parts if part.variables]
    if not parts:
        return []
    functions: dict[str, list[int]] = {}
    for i, part in enumerate(parts):
        functions.setdefault(part.text, []).append(i)
    names: list[list[str]] = []  # of the kernel's own pointers, for each part
    declared: list[str] = []
    for part in parts:
        names.append([f"q{len(declared) + i}" for i in range(len(part.variables))])
        # two parts may read the same array
        alone = len(parts) == 1
        declared += [f"{kind if alone else _shared(kind)} {q}" for kind, q in zip(part.types, names[-1], strict=True)]
    calls, blocks = _calls(parts, list(functions.values()), names)
    draws = list(dict.fromkeys(draw for part in parts for draw in part.draws))
    text = [VECTOR_TYPE] if any(part.vectors for part in parts) else []
    text.append(helpers("".join(functions)))
    text += [PHILOX, *draws] if draws else []
    text += [f"static __device__ void part{j}{function}\n" for j, function in enumerate(functions)]
    text.append(f'extern "C" __global__ void __launch_bounds__({BLOCK}) KERNEL(\n    {", ".join(declared)}) {{\n')
    text += [f"    {line}\n" for line in calls]
    text.append("}\n")
    name, source = named("".join(text), "elementwise")
    return [Kernel(name, source, (blocks, 1, 1), (BLOCK, 1, 1), tuple(v for part in parts for v in part.variables))]


def _calls(
    parts: Sequence[_Part], functions: Sequence[Sequence[int]], names: Sequence[Sequence[str]]
) -> tuple[list[str], int]:
    """Return the statements in which each block calls the function of its part, and the number of blocks.

    Parameters
    ----------
    parts : list of _Part
    functions : list of list of int
        For each function the parts that share it.
    names : list of list of str
        The pointers of each part.
    """
    lines = []
    first = 0  # block of a part
    for j, members in enumerate(functions):
        blocks = [min(-(-parts[i].work // BLOCK), MOST_BLOCKS) for i in members]
        types, unsigned = parts[members[0]].types, parts[members[0]].unsigned
        end = first + sum(blocks)
        lines.append(f"{'else ' if j else ''}if (blockIdx.x < {end}) {{")
        if len(members) == 1:
            own = names[members[0]]
            size = parts[members[0]].size
            lines.append(f"    const {unsigned} n = {size}, first = {first}, blocks = {blocks[0]};")
        else:
            own = [f"a{k}" for k in range(len(types))]
            lines.append(f"    {unsigned} n, first, blocks;")
            lines += [f"    {_shared(kind)} {a};" for kind, a in zip(types, own, strict=True)]
            start = first
            for i, count in zip(members, blocks, strict=True):
                chosen = "".join(f" {a} = {q};" for a, q in zip(own, names[i], strict=True))
                test = "" if i == members[-1] else f"if (blockIdx.x < {start + count}) "
                values = f"n = {parts[i].size}; first = {start}; blocks = {count};{chosen}"
                lines.append(f"    {'' if i == members[0] else 'else '}{test}{{ {values} }}")
                start += count
        thread = "(blockIdx.x - first) * blockDim.x + threadIdx.x"
        lines += [f"    part{j}({', '.join([*own, 'n', thread, 'blocks * blockDim.x'])});", "}"]
        first = end
    return lines, first


def _shared(kind: str) -> str:
    """Return the type of a pointer to what another pointer may point to as well."""
    return kind.replace(" __restrict__", "")


def _row_major(lengths: Sequence[int]) -> tuple[int, ...]:
    return tuple(prod(lengths[i + 1 :]) for i in range(len(lengths)))
