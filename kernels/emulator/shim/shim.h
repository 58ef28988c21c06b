// CUDA C++ on a processor: what the kernels use of the language and its headers. One fiber per CUDA thread; see
// emulator.cpp for how they take turns. Included before every kernel, which is otherwise compiled as it stands.
#pragma once

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <deque>

struct dim3 {
    uint32_t x = 1, y = 1, z = 1;
};
struct uint4 {
    uint32_t x, y, z, w;
} __attribute__((aligned(16)));
struct int4 {
    int32_t x, y, z, w;
} __attribute__((aligned(16)));
struct float4 {
    float x, y, z, w;
} __attribute__((aligned(16)));
struct float2 {
    float x, y;
} __attribute__((aligned(8)));
inline float2 make_float2(float x, float y) { return float2{x, y}; }

namespace emulator {

// What a lane lays down for the others of its warp.
struct Payload {
    uint64_t words[4];
};

enum class State { Ready, AtWarp, AtBlock, Done };

struct Copy {
    void* to;
    const void* from;
    size_t n_bytes;
    uint64_t group;
};

struct Block;

struct Fiber {
    void* stack_pointer;
    dim3 thread;
    uint32_t lane;
    State state;
    uint32_t mask;    // at a warp barrier: who is waited for
    uint32_t result;  // of a block barrier
    int line, line_predicate;
    Payload given;
    Payload* seen;  // by lane of the warp, as of the last warp barrier
    Block* block;
    std::deque<Copy> copies;
    uint64_t n_groups;  // committed
};

struct Block {
    dim3 index, size, grid;
    unsigned char* dynamic;
};

extern constinit thread_local Fiber* current;

// Waits for the lanes of `mask`, then sees what each gave; lanes that have ended gave zeros.
const Payload* meet(uint32_t mask, const Payload& given);
// Waits for the whole block; how many gave a predicate that is not zero.
uint32_t meet_block(int predicate, int line);
void begin_copy(void* to, const void* from, size_t n_bytes);
void wait_copies(uint64_t n_prior);

typedef void (*Thunk)(void** params);
struct Registration {
    Registration(const char* name, uint32_t n_threads, Thunk thunk);
};

template <class Value> Payload pack(const Value& value) {
    static_assert(sizeof(Value) <= sizeof(Payload));
    Payload payload = {};
    memcpy(&payload, &value, sizeof(Value));
    return payload;
}
template <class Value> Value unpack(const Payload& payload) {
    Value value;
    memcpy(&value, &payload, sizeof(Value));
    return value;
}

}  // namespace emulator

#define __device__
#define __host__
#define __global__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#ifdef __SANITIZE_ADDRESS__
// Watched only where it is no thread's own: launches then take turns.
#define __shared__ static
#else
#define __shared__ static thread_local
#endif
#define threadIdx (::emulator::current->thread)
#define blockIdx (::emulator::current->block->index)
#define blockDim (::emulator::current->block->size)
#define gridDim (::emulator::current->block->grid)
#define DYNAMIC_SHARED(name) unsigned char* const name = ::emulator::current->block->dynamic
#define REGISTER_KERNEL(name, threads)                                                             \
    static const ::emulator::Registration registration_of_##name(                                  \
        #name, threads, [](void** params) { ::emulator::call(name, params); });

namespace emulator {
template <class Args> void call(void (*kernel)(Args), void** params) {
    kernel(*static_cast<const Args*>(params[0]));
}
}  // namespace emulator

// ---- barriers, votes, shuffles --------------------------------------------------------------------------------------

inline void __syncthreads(int line = __builtin_LINE()) { emulator::meet_block(0, line); }
inline int __syncthreads_count(int predicate, int line = __builtin_LINE()) {
    return int(emulator::meet_block(predicate, line));
}
inline int __syncthreads_or(int predicate, int line = __builtin_LINE()) {
    return emulator::meet_block(predicate, line) != 0;
}
inline int __syncthreads_and(int predicate, int line = __builtin_LINE()) {
    return emulator::meet_block(!predicate, line) == 0;
}
inline void __syncwarp(uint32_t mask = 0xffffffffu) { emulator::meet(mask, {}); }
inline uint32_t __ballot_sync(uint32_t mask, int predicate) {
    const emulator::Payload* seen = emulator::meet(mask, emulator::pack(uint32_t(predicate != 0)));
    uint32_t set = 0;
    for (uint32_t lane = 0; lane < 32; ++lane)
        if (mask >> lane & 1) set |= emulator::unpack<uint32_t>(seen[lane]) << lane;
    return set;
}
inline int __any_sync(uint32_t mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(uint32_t mask, int predicate) { return __ballot_sync(mask, !predicate) == 0; }

template <class Value> Value __shfl_sync(uint32_t mask, Value value, int source) {
    return emulator::unpack<Value>(emulator::meet(mask, emulator::pack(value))[source & 31]);
}
template <class Value> Value __shfl_xor_sync(uint32_t mask, Value value, int step) {
    return __shfl_sync(mask, value, int(emulator::current->lane) ^ step);
}
template <class Value> Value __shfl_up_sync(uint32_t mask, Value value, uint32_t step) {
    const uint32_t lane = emulator::current->lane;
    return __shfl_sync(mask, value, int(lane < step ? lane : lane - step));
}
template <class Value> Value __shfl_down_sync(uint32_t mask, Value value, uint32_t step) {
    const uint32_t lane = emulator::current->lane;
    return __shfl_sync(mask, value, int(lane + step > 31 ? lane : lane + step));
}
inline void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

// ---- atomics --------------------------------------------------------------------------------------------------------

template <class Value> Value atomicAdd(Value* at, Value value) { return __atomic_fetch_add(at, value, __ATOMIC_SEQ_CST); }
template <class Value> Value atomicOr(Value* at, Value value) { return __atomic_fetch_or(at, value, __ATOMIC_SEQ_CST); }
template <class Value> Value atomicExch(Value* at, Value value) { return __atomic_exchange_n(at, value, __ATOMIC_SEQ_CST); }
template <class Value> Value atomicCAS(Value* at, Value expected, Value value) {
    __atomic_compare_exchange_n(at, &expected, value, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    return expected;
}
template <class Value> Value atomicMin(Value* at, Value value) {
    Value old = __atomic_load_n(at, __ATOMIC_SEQ_CST);
    while (value < old && !__atomic_compare_exchange_n(at, &old, value, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
    }
    return old;
}
template <class Value> Value atomicMax(Value* at, Value value) {
    Value old = __atomic_load_n(at, __ATOMIC_SEQ_CST);
    while (old < value && !__atomic_compare_exchange_n(at, &old, value, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
    }
    return old;
}

// ---- single instructions --------------------------------------------------------------------------------------------

inline int __popc(uint32_t x) { return __builtin_popcount(x); }
inline int __popcll(uint64_t x) { return __builtin_popcountll(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __clz(int x) { return x ? __builtin_clz(uint32_t(x)) : 32; }
template <class Value> Value __ldg(const Value* at) { return *at; }
template <class Value> Value __ldcg(const Value* at) { return *const_cast<const volatile Value*>(at); }
inline uint32_t __float_as_uint(float x) { return __builtin_bit_cast(uint32_t, x); }
inline float __uint_as_float(uint32_t x) { return __builtin_bit_cast(float, x); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __uint2float_rn(uint32_t x) { return float(x); }
inline float __int2float_rn(int32_t x) { return float(x); }

template <class Byte> int32_t byte_of(uint32_t word, int i) { return Byte(word >> (8 * i)); }
inline int32_t __dp4a(int32_t a, int32_t b, int32_t sum) {
    for (int i = 0; i < 4; ++i) sum += byte_of<int8_t>(uint32_t(a), i) * byte_of<int8_t>(uint32_t(b), i);
    return sum;
}
inline uint32_t __dp4a(uint32_t a, uint32_t b, uint32_t sum) {
    for (int i = 0; i < 4; ++i) sum += uint32_t(byte_of<uint8_t>(a, i) * byte_of<uint8_t>(b, i));
    return sum;
}
template <class Byte> uint32_t sum_of_differences(uint32_t a, uint32_t b) {
    uint32_t sum = 0;
    for (int i = 0; i < 4; ++i) {
        const int32_t difference = byte_of<Byte>(a, i) - byte_of<Byte>(b, i);
        sum += uint32_t(difference < 0 ? -difference : difference);
    }
    return sum;
}
inline uint32_t __vsadu4(uint32_t a, uint32_t b) { return sum_of_differences<uint8_t>(a, b); }
inline uint32_t __vsads4(uint32_t a, uint32_t b) { return sum_of_differences<int8_t>(a, b); }

// ---- tensor cores, with the fragments of the PTX manual -------------------------------------------------------------

namespace emulator {
struct Operands {
    uint32_t a[4], b[2];
};
template <class Byte> void mma_m16n8k32(int32_t (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    const Payload* seen = meet(0xffffffffu, pack(Operands{{a[0], a[1], a[2], a[3]}, {b[0], b[1]}}));
    const uint32_t g = current->lane / 4, t = current->lane % 4;
    for (int i = 0; i < 4; ++i) {
        const uint32_t row = g, column = t * 2 + i % 2, lower = i / 2;  // row g or g + 8
        for (uint32_t part = 0; part < 4; ++part) {                     // who holds k = 4 part ... and 4 part + 16 ...
            const Operands left = unpack<Operands>(seen[row * 4 + part]);
            const Operands right = unpack<Operands>(seen[column * 4 + part]);
            for (int half = 0; half < 2; ++half)
                for (int byte = 0; byte < 4; ++byte)
                    d[i] += byte_of<Byte>(left.a[lower + 2 * half], byte) * byte_of<Byte>(right.b[half], byte);
        }
    }
}
}  // namespace emulator

inline void mma_m16n8k32(int32_t (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], int8_t) {
    emulator::mma_m16n8k32<int8_t>(d, a, b);
}
inline void mma_m16n8k32(int32_t (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], uint8_t) {
    emulator::mma_m16n8k32<uint8_t>(d, a, b);
}
