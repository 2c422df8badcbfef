// A GPU on the host: the threads of a block are coroutines that take turns at each barrier, block after block.
//
// Every access to memory that a kernel makes is looked at on its way: g++ -fsanitize=thread calls a function for each,
// and here are these functions, instead of those of its library. So what compute-sanitizer finds on a GPU is found
// here: accesses outside of arrays (memcheck), two threads at one place without a barrier between them (racecheck, and
// in global memory too), barriers that not all threads reach (synccheck), and shared memory that is read before it is
// written (initcheck; other memory is full of bytes that look like no number).

#include "host_gpu.h"

#include <algorithm>
#include <vector>
#include <ucontext.h>

Three threadIdx, blockIdx, blockDim, gridDim;
unsigned wrong, current;
unsigned long long exchanged[1024];

// Threads

struct Thread {
    ucontext_t context;
    std::vector<char> stack;
    char* base;              // where the frames of the kernel begin, downwards
    bool running;
    unsigned barriers;       // how many of the block it has passed
    unsigned long long met;  // all barriers and exchanges so far, in order
};
static std::vector<Thread> threads;
static ucontext_t scheduler;
static bool watching;  // whether a kernel's own code is running
static void (*kernel)(void**);
static void** arguments;

void meet(unsigned kind) {
    if (blockDim.x * blockDim.y == 1) return;
    const Three own = threadIdx;
    Thread& thread = threads[current];
    thread.met = thread.met * 31 + kind;
    thread.barriers += kind == BARRIER;
    watching = false;
    swapcontext(&thread.context, &scheduler);
    watching = true;
    threadIdx = own;
}

static void run_thread() {
    threads[current].base = (char*)__builtin_frame_address(0);
    watching = true;
    kernel(arguments);
    watching = false;
    threads[current].running = false;
}

// All threads meet at the same barriers in the same order. Exchanges only concern a warp, but here all warps have the
// same.
static void check_barriers(unsigned n) {
    for (unsigned t = 1; t < n; ++t)
        if (threads[t].met != threads[0].met) wrong |= DIVERGENT;
}

static void run_block(bool barriers, bool backwards) {
    const unsigned n = blockDim.x * blockDim.y;
    for (unsigned t = 0; t < n; ++t) {
        Thread& thread = threads[t];
        thread.barriers = thread.met = 0;
        thread.running = true;
        if (!barriers) continue;
        thread.stack.resize(64 << 10);
        getcontext(&thread.context);
        thread.context.uc_stack.ss_sp = thread.stack.data();
        thread.context.uc_stack.ss_size = thread.stack.size();
        thread.context.uc_link = &scheduler;
        makecontext(&thread.context, run_thread, 0);
    }
    for (bool any = true; any;) {
        any = false;
        for (unsigned turn = 0; turn < n; ++turn) {
            current = backwards ? n - 1 - turn : turn;
            Thread& thread = threads[current];
            if (!thread.running) continue;
            threadIdx = {current % blockDim.x, current / blockDim.x, 0};
            if (barriers) swapcontext(&scheduler, &thread.context);
            else run_thread();
            any |= thread.running;
        }
    }
    check_barriers(n);
}

// Memory

struct Access { int block = -1; unsigned thread, barriers; };
struct Element {
    Access written, read, read_before;  // the last ones; the two reads are of different threads
    bool read_by_blocks = false;        // by more than one, since the write
};
struct Range {
    const char *begin, *end;
    unsigned size;  // of an element, in bytes
    std::vector<Element> elements;

    bool has(const char* p, unsigned long bytes) const { return p >= begin && p + bytes <= end; }
};
static std::vector<Range> arrays, shared_arrays;

static Range* range_of(std::vector<Range>& ranges, const char* p, unsigned long bytes) {
    for (Range& range : ranges)
        if (range.has(p, bytes)) return &range;
    return nullptr;
}

// The arrays of a launch. Those that overlap are watched as one: two names may stand for one place.
static void watch_arrays(const char** ends, const unsigned* sizes, unsigned count) {
    std::vector<Range> given;
    for (unsigned i = 0; i < count; ++i) given.push_back({ends[2 * i], ends[2 * i + 1], sizes[i], {}});
    std::sort(given.begin(), given.end(), [](const Range& a, const Range& b) { return a.begin < b.begin; });
    arrays.clear();
    for (const Range& next : given) {
        if (!arrays.empty() && next.begin < arrays.back().end) {
            Range& last = arrays.back();
            last.end = std::max(last.end, next.end);
            last.size = std::min(last.size, next.size);
        } else {
            arrays.push_back(next);
        }
    }
    for (Range& array : arrays) array.elements.resize((array.end - array.begin) / array.size);
}

void watch_shared(void* place, unsigned long bytes, unsigned size) {
    const char* begin = (const char*)place;
    if (!range_of(shared_arrays, begin, bytes))
        shared_arrays.push_back({begin, begin + bytes, size, std::vector<Element>(bytes / size)});
}

// Whether nothing orders an earlier access before one of this thread now. Barriers order the threads of a block only.
static bool unordered(const Access& earlier, const Access& now, bool shared) {
    if (earlier.block < 0 || (earlier.block == now.block && earlier.thread == now.thread)) return false;
    if (earlier.block != now.block) return !shared;  // each block has shared memory of its own
    return earlier.barriers == now.barriers;
}

static void touch(const void* place, unsigned long bytes, bool write) {
    if (!watching) return;
    const char* p = (const char*)place;
    if (p >= (char*)__builtin_frame_address(0) && p < threads[current].base) return;  // a variable of the kernel
    for (const Three* index : {&threadIdx, &blockIdx, &blockDim, &gridDim})
        if (p >= (char*)index && p < (char*)(index + 1)) return;
    Range* shared = range_of(shared_arrays, p, bytes);
    Range* range = shared ? shared : range_of(arrays, p, bytes);
    if (!range) {
        wrong |= OUTSIDE;
        return;
    }
    const Access now{(int)(blockIdx.y * gridDim.x + blockIdx.x), current, threads[current].barriers};
    for (unsigned long i = (p - range->begin) / range->size; i <= (p + bytes - 1 - range->begin) / range->size; ++i) {
        Element& element = range->elements[i];
        bool race = unordered(element.written, now, shared);
        if (write) {
            race |= unordered(element.read, now, shared) || unordered(element.read_before, now, shared);
            race |= element.read_by_blocks && !shared;
            element = Element();
            element.written = now;
        } else {
            if (shared && element.written.block != now.block) wrong |= UNWRITTEN;
            const Access& last = element.read;
            element.read_by_blocks |= last.block >= 0 && last.block != now.block;
            if (last.block != now.block || last.thread != now.thread) element.read_before = last;
            element.read = now;
        }
        if (race) wrong |= RACE;
    }
}

extern "C" {
#define HOOKS(n) \
    void __tsan_read##n(void* p) { touch(p, n, false); } \
    void __tsan_write##n(void* p) { touch(p, n, true); } \
    void __tsan_unaligned_read##n(void* p) { touch(p, n, false); } \
    void __tsan_unaligned_write##n(void* p) { touch(p, n, true); }
HOOKS(1) HOOKS(2) HOOKS(4) HOOKS(8) HOOKS(16)
void __tsan_read_range(void* p, unsigned long bytes) { touch(p, bytes, false); }
void __tsan_write_range(void* p, unsigned long bytes) { touch(p, bytes, true); }
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
}

// Launches

unsigned launch(
    void (*kernel_of_pointers)(void**), void** p, const char** ends, const unsigned* sizes, unsigned count,
    const int* shape, bool barriers) {
    kernel = kernel_of_pointers;
    arguments = p;
    gridDim = {(unsigned)shape[0], (unsigned)shape[1], 1};
    blockDim = {(unsigned)shape[2], (unsigned)shape[3], 1};
    if (threads.size() < blockDim.x * blockDim.y) threads.resize(blockDim.x * blockDim.y);
    wrong = 0;
    shared_arrays.clear();
    watch_arrays(ends, sizes, count);
    for (blockIdx.z = blockIdx.y = 0; blockIdx.y < gridDim.y; ++blockIdx.y)
        for (blockIdx.x = 0; blockIdx.x < gridDim.x; ++blockIdx.x) run_block(barriers, shape[4]);
    return wrong;
}
