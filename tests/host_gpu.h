// What a CUDA kernel needs to run on the host, compiled by g++ before the kernel's own text (tests/host_kernels.py).
//
// A block's threads are coroutines that take turns at each barrier. Every access to memory that the kernel makes is
// looked at on its way: g++ -fsanitize=thread calls a function for each, and here are these functions, instead of
// those of its library. So what compute-sanitizer finds on a GPU is found here: accesses outside of arrays (memcheck),
// two threads at one place without a barrier between them (racecheck), barriers that not all threads reach (synccheck).

#include <cmath>
#include <cstring>
#include <unordered_map>
#include <utility>
#include <vector>
#include <ucontext.h>

#define UNWATCHED __attribute__((no_sanitize_thread))

struct Three { unsigned x, y, z; };
static Three threadIdx, blockIdx, blockDim, gridDim;
#define __global__
#define __device__
#define __launch_bounds__(n)

// What was wrong in a launch: a bit for each kind
enum { ALIGNMENT = 1, OUTSIDE = 2, RACE = 4, DIVERGENT = 8 };
static unsigned wrong;

// Who is running, and what it did

struct Thread {
    ucontext_t context;
    std::vector<char> stack;
    char* base;            // where the frames of the kernel begin, downwards
    bool running;
    unsigned barriers;     // how many of the block it has passed
    unsigned long long met;  // all barriers and exchanges so far, in order
};
static std::vector<Thread> threads;
static ucontext_t scheduler;
static unsigned current;
static bool watching;  // whether a kernel's own code is running

struct Pause {
    const bool before;
    UNWATCHED Pause() : before(watching) { watching = false; }
    UNWATCHED ~Pause() { watching = before; }
};

UNWATCHED static unsigned block_number() { return blockIdx.y * gridDim.x + blockIdx.x; }

// Memory

struct Range { const char *begin, *end; };
static std::vector<Range> arrays, shared_arrays;
template <class T> UNWATCHED static Range whole(const T& x) { return {(const char*)&x, (const char*)(&x + 1)}; }
static const std::vector<Range> indices{whole(threadIdx), whole(blockIdx), whole(blockDim), whole(gridDim)};

struct Access { int block = -1; unsigned thread, barriers; };
struct Byte {
    Access written, read, read_before;  // the last ones; the two reads are of different threads
    bool read_by_blocks = false;        // by more than one, since the write
};
static std::unordered_map<const char*, Byte> memory;

UNWATCHED static bool within(const std::vector<Range>& ranges, const char* p, unsigned long size) {
    for (const Range& range : ranges)
        if (p >= range.begin && p + size <= range.end) return true;
    return false;
}

// Whether nothing orders an earlier access before one of this thread now. Barriers order the threads of a block only.
UNWATCHED static bool unordered(const Access& earlier, const Access& now, bool shared) {
    if (earlier.block < 0 || (earlier.block == now.block && earlier.thread == now.thread)) return false;
    if (earlier.block != now.block) return !shared;  // each block has shared memory of its own
    return earlier.barriers == now.barriers;
}

UNWATCHED static void look(const char* p, unsigned long size, bool write) {
    const bool shared = within(shared_arrays, p, size);
    if (!shared && !within(arrays, p, size)) {
        wrong |= OUTSIDE;
        return;
    }
    const Access now{(int)block_number(), current, threads[current].barriers};
    for (unsigned long i = 0; i < size; ++i) {
        Byte& byte = memory[p + i];
        bool race = unordered(byte.written, now, shared);
        if (write) {
            race |= unordered(byte.read, now, shared) || unordered(byte.read_before, now, shared);
            race |= byte.read_by_blocks && !shared;
            byte = Byte();
            byte.written = now;
        } else {
            const Access& last = byte.read;
            byte.read_by_blocks |= last.block >= 0 && last.block != now.block;
            if (last.block != now.block || last.thread != now.thread) byte.read_before = last;
            byte.read = now;
        }
        if (race) wrong |= RACE;
    }
}

UNWATCHED static void touch(const void* place, unsigned long size, bool write) {
    if (!watching) return;
    Pause pause;
    const char* p = (const char*)place;
    const bool own = p >= (char*)&p && p < threads[current].base;  // a variable of the kernel
    if (!own && !within(indices, p, size)) look(p, size, write);
}

extern "C" {
#define HOOKS(n) \
    UNWATCHED void __tsan_read##n(void* p) { touch(p, n, false); } \
    UNWATCHED void __tsan_write##n(void* p) { touch(p, n, true); } \
    UNWATCHED void __tsan_unaligned_read##n(void* p) { touch(p, n, false); } \
    UNWATCHED void __tsan_unaligned_write##n(void* p) { touch(p, n, true); }
HOOKS(1) HOOKS(2) HOOKS(4) HOOKS(8) HOOKS(16)
UNWATCHED void __tsan_read_range(void* p, unsigned long size) { touch(p, size, false); }
UNWATCHED void __tsan_write_range(void* p, unsigned long size) { touch(p, size, true); }
UNWATCHED void __tsan_init() {}
UNWATCHED void __tsan_func_entry(void*) {}
UNWATCHED void __tsan_func_exit() {}
}

// an access of several elements must be aligned to its size
template <class V, class T> UNWATCHED V& access(T* p) {
    static V nowhere{};
    if ((unsigned long long)p % sizeof(V) == 0) return *(V*)p;
    wrong |= ALIGNMENT;
    return nowhere;
}

template <class T, int N> struct Shared {
    T at[N];
    UNWATCHED T& operator[](long long i) {
        Pause pause;
        if (!within(shared_arrays, (char*)at, sizeof(at))) shared_arrays.push_back(whole(at));
        if (i >= 0 && i < N) return at[i];
        wrong |= OUTSIDE;
        return at[0];
    }
};

static float __int_as_float(int i) { float x; memcpy(&x, &i, 4); return x; }
static double __longlong_as_double(long long i) { double x; memcpy(&x, &i, 8); return x; }
static float from_half(unsigned short h) { _Float16 x; memcpy(&x, &h, 2); return x; }
static unsigned short to_half(float x) { _Float16 y = x; unsigned short h; memcpy(&h, &y, 2); return h; }
static unsigned short to_half(double x) { _Float16 y = x; unsigned short h; memcpy(&h, &y, 2); return h; }

// Threads and barriers

static bool alone;  // whether a block is one thread, for which a barrier is nothing

enum { BARRIER = 1, GIVEN, TAKEN };
UNWATCHED static void meet(unsigned kind) {
    if (alone) return;
    Pause pause;
    const Three own = threadIdx;
    Thread& me = threads[current];
    me.met = me.met * 31 + kind;
    me.barriers += kind == BARRIER;
    swapcontext(&me.context, &scheduler);
    threadIdx = own;
}
UNWATCHED static void __syncthreads() { meet(BARRIER); }

static unsigned long long exchanged[1024];
template <class T> UNWATCHED static T exchange(T value, bool inside, unsigned other) {
    memcpy(&exchanged[current], &value, sizeof(T));
    meet(GIVEN);
    if (inside) memcpy(&value, &exchanged[other], sizeof(T));
    meet(TAKEN);
    return value;
}
template <class T> UNWATCHED T __shfl_down_sync(unsigned, T value, int by, int width) {
    return exchange(value, current % width + by < (unsigned)width, current + by);
}
template <class T> UNWATCHED T __shfl_xor_sync(unsigned, T value, int by, int) {
    return exchange(value, true, current ^ by);
}

// All threads meet at the same barriers in the same order. Exchanges only concern a warp, but here all warps have the
// same.
UNWATCHED static void check_barriers(unsigned n) {
    for (unsigned t = 1; t < n; ++t)
        if (threads[t].met != threads[0].met) wrong |= DIVERGENT;
}

// Launches

template <class... A> struct Kernel {
    void (*f)(A...);
    void** pointers;

    template <size_t... I> UNWATCHED void call(std::index_sequence<I...>) {
        threads[current].base = (char*)__builtin_frame_address(0);
        watching = true;
        f((A)pointers[I]...);
        watching = false;
    }
    UNWATCHED void operator()() { call(std::make_index_sequence<sizeof...(A)>()); }
};

template <class K> struct Body {
    static K* kernel;
    UNWATCHED static void main() {
        (*kernel)();
        threads[current].running = false;
    }
};
template <class K> K* Body<K>::kernel;

template <class K> UNWATCHED void run_block(K& kernel, bool barriers, bool backwards) {
    const unsigned n = blockDim.x * blockDim.y;
    Body<K>::kernel = &kernel;
    for (unsigned t = 0; t < n; ++t) {
        threads[t].barriers = threads[t].met = 0;
        threads[t].running = true;
    }
    for (unsigned alive = n; alive > 0;) {
        alive = 0;
        for (unsigned turn = 0; turn < n; ++turn) {
            current = backwards ? n - 1 - turn : turn;
            Thread& thread = threads[current];
            if (!thread.running) continue;
            threadIdx = {current % blockDim.x, current / blockDim.x, 0};
            if (!barriers || n == 1) {
                kernel();
                thread.running = false;
                continue;
            }
            if (thread.met == 0 && thread.barriers == 0) {
                thread.stack.resize(64 << 10);
                getcontext(&thread.context);
                thread.context.uc_stack.ss_sp = thread.stack.data();
                thread.context.uc_stack.ss_size = thread.stack.size();
                thread.context.uc_link = &scheduler;
                makecontext(&thread.context, Body<K>::main, 0);
            }
            swapcontext(&scheduler, &thread.context);
            alive += thread.running;
        }
    }
    check_barriers(n);
}

// Launch a kernel; `ranges` are the first addresses of its arrays and those behind their ends. Return what was wrong.
template <class... A>
UNWATCHED unsigned launch(void (*f)(A...), void** p, const char** ranges, const int* shape, bool barriers) {
    gridDim = {(unsigned)shape[0], (unsigned)shape[1], 1};
    blockDim = {(unsigned)shape[2], (unsigned)shape[3], 1};
    alone = blockDim.x * blockDim.y == 1;
    if (threads.size() < blockDim.x * blockDim.y) threads.resize(blockDim.x * blockDim.y);
    wrong = 0;
    memory.clear();
    shared_arrays.clear();
    arrays.clear();
    for (unsigned i = 0; i < sizeof...(A); ++i) arrays.push_back({ranges[2 * i], ranges[2 * i + 1]});
    Kernel<A...> kernel{f, p};
    for (blockIdx.z = blockIdx.y = 0; blockIdx.y < gridDim.y; ++blockIdx.y)
        for (blockIdx.x = 0; blockIdx.x < gridDim.x; ++blockIdx.x) run_block(kernel, barriers, shape[4]);
    return wrong;
}
