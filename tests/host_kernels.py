"""Generated CUDA kernels without a GPU: NVRTC compiles them, to see that they are CUDA, and g++, to see what they do.

Where there is a GPU the same cases run on it.

g++ gets the text that a GPU would get, behind a few definitions (host_gpu.h): a block's threads are coroutines that
take turns at each barrier, so trees in shared memory and exchanges within a warp happen as on a GPU, in two of the
orders possible. Every access to memory is looked at: is it aligned, inside of an array, and ordered by a barrier?
"""

import ctypes
import functools
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from minigrad.program.cuda import Scratch, Unsupported, kernels_of, launches
from minigrad.program.cuda.driver import module_text
from minigrad.program.memory import Plan
from minigrad.program.program import Variable

GXX = shutil.which("g++")
# every access to memory calls a function of host_gpu.h; an index beyond an array of a thread stops the process
WATCH = ("-fsanitize=thread", "-fsanitize=bounds", "-fsanitize-undefined-trap-on-error")
ORDERS = ("forwards", "backwards", "alone")

HOST = Path(__file__).with_name("host_gpu.h")
WRONG = {
    1: "an access of several elements that is not aligned to its size",
    2: "an access outside of the arrays",
    4: "two threads at one place, of which one writes, and no barrier between them",
    8: "a barrier that not all threads reach",
    16: "a number in shared memory that no thread of the block wrote",
}


def compiled(found):
    """Compile kernels by one call of g++; return a function that launches one of them on arrays."""
    unique = {kernel.name: kernel for kernel in found}
    text = [f'#include "{HOST}"\n']
    for name, kernel in unique.items():
        barriers = "__syncthreads" in kernel.source or "__shfl" in kernel.source
        source = re.sub(r"\*\((const )?(Vector<[^>]*>)\*\)\(", r"access<\1\2>(", kernel.source)
        source = re.sub(r"__shared__ (.*) (\w+)\[(\d+)\];", r"static Shared<\1, \3> \2;", source)
        text.append(f"""
namespace ns_{name} {{
{source}
UNWATCHED void with_pointers(void** p) {{ call({name}, p); }}
}}
extern "C" unsigned run_{name}(
    void** p, const char** ends, const unsigned* sizes, unsigned count, const int* shape) {{
    return launch(ns_{name}::with_pointers, p, ends, sizes, count, shape, {"true" if barriers else "false"});
}}
""")
    with tempfile.TemporaryDirectory() as folder:
        source, made, host, library = (
            Path(folder, name) for name in ("kernels.cpp", "kernels.o", "host.o", "kernels.so")
        )
        source.write_text("".join(text))
        host.write_bytes(host_gpu())
        run(GXX, "-std=c++17", "-O0", "-ffp-contract=off", "-fPIC", "-w", *WATCH, "-c", "-o", made, source)
        run(GXX, "-shared", "-o", library, made, host)  # not with -fsanitize=thread, which would add its library
        loaded = ctypes.CDLL(str(library))

    def launch(kernel, arrays, order):
        """Launch on threads in a given order: "forwards", "backwards", or with one thread per block, "alone"."""
        pointers = (ctypes.c_void_p * len(arrays))(*(a.ctypes.data for a in arrays))
        ends = (ctypes.c_void_p * (2 * len(arrays)))(*(end for a in arrays for end in bounds(a)))
        sizes = (ctypes.c_uint * len(arrays))(*(a.itemsize for a in arrays))
        block = (1, 1) if order == "alone" else kernel.block[:2]
        shape = (ctypes.c_int * 5)(*kernel.grid[:2], *block, order == "backwards")
        start = getattr(loaded, f"run_{kernel.name}")
        start.restype = ctypes.c_uint
        found = start(pointers, ends, sizes, len(arrays), shape)
        assert not found, f"{kernel.name}: {'; '.join(text for bit, text in WRONG.items() if found & bit)}"

    return launch


@functools.cache
def host_gpu():
    """Return what runs the threads of kernels and watches them, as an object file."""
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder, "host.o")
        run(GXX, "-std=c++17", "-O2", "-fPIC", "-c", "-o", made, HOST.with_suffix(".cpp"))
        return made.read_bytes()


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise AssertionError(f"g++ refused a kernel:\n{done.stderr[:3000]}")


def bounds(a):
    """Return the addresses at which the memory of an array begins and ends."""
    return np.lib.array_utils.byte_bounds(a) if a.size else (a.ctypes.data, a.ctypes.data)


def compiled_on_gpu(found):
    """Compile kernels by one call of NVRTC; return a function that launches one on a GPU, on copies of arrays."""
    import cupy

    module = cupy.cuda.function.Module()
    # without contracted multiplications and additions, so that bits can be compared
    module.load(compile_for_gpu(found, f"sm_{cupy.cuda.Device().compute_capability}", "--fmad=false"))

    def launch(kernel, arrays, order):
        block = (1, 1, 1) if order == "alone" else kernel.block
        copies, arguments = [], []
        for a in arrays:
            low, high = bounds(a)
            memory = np.ctypeslib.as_array((ctypes.c_uint8 * (high - low)).from_address(low))
            block_on_gpu = cupy.full(high - low + 3 * GUARD, 0xAB, cupy.uint8)
            start = GUARD + low % GUARD  # as aligned, or not, as the array
            place = block_on_gpu[start : start + high - low]
            place.set(memory)
            copies.append((a, memory, block_on_gpu, start))
            arguments.append(np.uint64(place.data.ptr + a.ctypes.data - low))
        module.get_function(kernel.name)(kernel.grid, block, tuple(arguments))
        for a, memory, block_on_gpu, start in copies:
            back = block_on_gpu.get()
            inside = slice(start, start + memory.size)
            assert (np.delete(back, inside) == 0xAB).all(), "written outside of an array"
            if a.flags.writeable:
                memory[...] = back[inside]

    return launch


class HostReplay:
    """A program as a list of launches whose kernels run on the host; what has none runs by NumPy."""

    def __init__(self, program, stored=None, strides=None):
        self.program = program
        self.plan = Plan(program, launches(program))
        self.stored = set(self.plan.buffers) | set(stored or ())
        self.strides = strides or {}
        self.steps = []
        for group in self.plan.groups:
            made = None
            if group.kind:
                made = kernels_of(group, self.stored, self.plan.roots, self.strides)
            self.steps.append((group, made))

    @property
    def kernels(self):
        return [kernel for _, made in self.steps for kernel in made or ()]

    def run(self, launch, arguments, order="forwards"):
        """Return the arrays of the program's outputs."""
        # every value has memory of its own, in which nothing is right unless a kernel writes it
        arrays = {v: t._array for v, t in self.program.captured.items()}
        arrays.update(zip(self.program.arguments, arguments, strict=True))
        for group, made in self.steps:
            if made is None:
                (e,) = group.equations
                inputs = [arrays[x] if isinstance(x, Variable) else x for x in e.inputs]
                with np.errstate(all="ignore"):
                    result = np.asarray(e.primitive.forward(np, *inputs, **e.metadata))
                    arrays[e.output] = result if e.output.view else placed(result.astype(e.output.dtype), e.output)
                continue
            for e in group.equations:
                if e.primitive.effect:
                    arrays[e.output] = arrays[e.variables[0]]
                elif e.output in self.stored:
                    arrays[e.output] = placed(None, e.output)
            scratch = {}
            for kernel in made:
                for p in kernel.parameters:
                    if isinstance(p, Scratch):
                        scratch.setdefault(p, np.full(p.nbytes, 0xCD, np.uint8))
                launch(kernel, [scratch[p] if isinstance(p, Scratch) else arrays[p] for p in kernel.parameters], order)
        for v, a in arrays.items():
            if v in self.stored and not v.view:
                assert_nothing_outside(a, v)
        return [arrays[v] for v in self.program.outputs]


GUARD = 64  # bytes before and behind an array


def assert_nothing_outside(a, v):
    """Fail if something was written before or behind an array made by `placed`."""
    block = a
    while block.base is not None and block.base.dtype == np.uint8:
        block = block.base
    start, end = (place - block.ctypes.data for place in bounds(a))
    assert (block[:start] == 0xAB).all() and (block[end:] == 0xAB).all(), f"written outside of {v!r}"


def placed(values, v):
    """Return an array in the layout of a variable; without values it is full of bytes that look like no number."""
    size = v.dtype.itemsize + sum((n - 1) * abs(s) for n, s in zip(v.shape, v.strides, strict=True) if n)
    start = sum((n - 1) * -s for n, s in zip(v.shape, v.strides, strict=True) if s < 0 and n > 0)
    block = np.full(size + 2 * GUARD + 64, 0xAB, np.uint8)
    block = block[GUARD + -block.ctypes.data % 64 :]
    a = np.ndarray(v.shape, v.dtype, block, start, v.strides)
    if values is not None:
        a[...] = values
    return a


# NVRTC


@functools.cache
def nvrtc():
    """Return NVIDIA's run-time compiler from its wheel, or None."""
    for folder in sys.path:
        for library in sorted(Path(folder or ".", "nvidia").glob("*/lib/libnvrtc.so.*")):
            try:
                return ctypes.CDLL(str(library))
            except OSError:
                continue
    return None


def compile_for_gpu(found, architecture="sm_90", *more):
    """Compile kernels by NVRTC; return the machine code (sm_90) or the assembler text (compute_90)."""
    return compile_text_for_gpu(module_text({kernel.name: kernel.source for kernel in found}), architecture, *more)


def compile_text_for_gpu(text, architecture="sm_90", *more):
    """Compile CUDA C++ by NVRTC."""
    library = nvrtc()
    program = ctypes.c_void_p()
    check(library.nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"kernels.cu", 0, None, None))
    options = [option.encode() for option in (f"--gpu-architecture={architecture}", "--std=c++17", *more)]
    status = library.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
    size = ctypes.c_size_t()
    if status:
        library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
        log = ctypes.create_string_buffer(size.value)
        library.nvrtcGetProgramLog(program, log)
        raise AssertionError(f"NVRTC refused a kernel:\n{log.value.decode()[:3000]}")
    kind = "CUBIN" if architecture.startswith("sm") else "PTX"
    check(getattr(library, f"nvrtcGet{kind}Size")(program, ctypes.byref(size)))
    result = ctypes.create_string_buffer(size.value)
    check(getattr(library, f"nvrtcGet{kind}")(program, result))
    library.nvrtcDestroyProgram(ctypes.byref(program))
    return result.raw if kind == "CUBIN" else result.value.decode()


def check(status):
    assert status == 0, f"NVRTC failed with status {status}"


def doubles(assembler):
    """Return the instructions on float64 in an assembler text."""
    return re.findall(r"^.*\.f64.*$", assembler, re.MULTILINE)


__all__ = [
    "GXX",
    "HostReplay",
    "Unsupported",
    "compile_for_gpu",
    "compile_text_for_gpu",
    "compiled",
    "doubles",
    "nvrtc",
    "placed",
]
