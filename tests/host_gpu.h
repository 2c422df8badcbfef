// What the text of a CUDA kernel needs to be compiled by g++ and to run on the host, through host_gpu.cpp.

#pragma once
#include <cmath>
#include <cstring>
#include <utility>

struct Three { unsigned x, y, z; };
extern Three threadIdx, blockIdx, blockDim, gridDim;
#define __global__
#define __device__
#define __launch_bounds__(n)

// g++ lets kernels tell of every access to memory (-fsanitize=thread), but not what is not of the kernel
#define UNWATCHED __attribute__((no_sanitize_thread))

// What was wrong in a launch: a bit for each kind
enum { ALIGNMENT = 1, OUTSIDE = 2, RACE = 4, DIVERGENT = 8, UNWRITTEN = 16 };
extern unsigned wrong;

// an access of several elements must be aligned to its size
template <class V, class T> UNWATCHED V& access(T* p) {
    static V nowhere{};
    if ((unsigned long long)p % sizeof(V) == 0) return *(V*)p;
    wrong |= ALIGNMENT;
    return nowhere;
}

void watch_shared(void* begin, unsigned long bytes, unsigned size);

template <class T, int N> struct Shared {
    T at[N];
    UNWATCHED T& operator[](long long i) {
        watch_shared(at, sizeof(at), sizeof(T));
        if (i >= 0 && i < N) return at[i];
        wrong |= OUTSIDE;
        return at[0];
    }
};

// Where the threads of a block, or of a warp, meet

enum { BARRIER = 1, GIVEN, TAKEN };
void meet(unsigned kind);
UNWATCHED inline void __syncthreads() { meet(BARRIER); }

extern unsigned current;  // the number of the running thread
extern unsigned long long exchanged[1024];
template <class T> UNWATCHED T exchange(T value, bool inside, unsigned other) {
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

static float __int_as_float(int i) { float x; memcpy(&x, &i, 4); return x; }
static double __longlong_as_double(long long i) { double x; memcpy(&x, &i, 8); return x; }
static float from_half(unsigned short h) { _Float16 x; memcpy(&x, &h, 2); return x; }
static unsigned short to_half(float x) { _Float16 y = x; unsigned short h; memcpy(&h, &y, 2); return h; }
static unsigned short to_half(double x) { _Float16 y = x; unsigned short h; memcpy(&h, &y, 2); return h; }

// Call a kernel with pointers; launch it on arrays, whose first elements are at `p`, whose memory begins and ends at
// pairs of `ends`, and whose elements have so many bytes; `shape` is the grid, the block and whether the last thread
// comes first. Returns what was wrong.
template <class... A, size_t... I> UNWATCHED void call(void (*f)(A...), void** p, std::index_sequence<I...>) {
    f((A)p[I]...);
}
template <class... A> UNWATCHED void call(void (*f)(A...), void** p) {
    call(f, p, std::make_index_sequence<sizeof...(A)>());
}
unsigned launch(
    void (*kernel)(void**), void** p, const char** ends, const unsigned* sizes, unsigned count, const int* shape,
    bool barriers);
