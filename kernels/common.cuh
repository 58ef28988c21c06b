// Words that every kernel shares: metrics, elements, distances as sortable keys, copies into shared memory.
//
// A row stands on the device with its elements padded by zeros to a multiple of 64 bytes; zeros change no dot product
// and no difference, so no kernel has a tail. Beside the rows stands one 32-bit factor per row: 1 / norm for cosine (a
// float), the squared norm for L2 of integers, unused otherwise. Queries of float rows are f32; of integer rows, the same type.
#pragma once

#include <cuda_fp16.h>
#include <cuda_pipeline.h>
#include <stdint.h>

#ifdef __CUDACC__
// Shared memory whose size is given at launch.
#define DYNAMIC_SHARED(name) extern __shared__ __align__(16) unsigned char name[]
#define REGISTER_KERNEL(name, threads)
#endif

// A kernel as the driver finds it: a C name, one struct of arguments, a fixed number of threads.
#define KERNEL(name, threads, Args, function)                                        \
    extern "C" __global__ void __launch_bounds__(threads, 1) name(const Args args) {    \
        function(args);                                                              \
    }                                                                                \
    REGISTER_KERNEL(name, threads)

namespace nearkin {

typedef unsigned long long Key;

enum Metric { COSINE, DOT, L2, L1 };

const uint32_t ALL_LANES = 0xffffffffu;

// Bytes of a row that are staged at once, and their place in shared memory: 16 bytes of padding make the 16-byte reads
// of eight neighboring rows, and the 4-byte reads of a tensor-core fragment, fall into different banks.
const int SEGMENT = 64;
const int PAD = 16;

__device__ __forceinline__ uint32_t lane_id() { return threadIdx.x % 32; }

__device__ __forceinline__ uint32_t least(uint32_t a, uint32_t b) { return a < b ? a : b; }

// ---- elements -----------------------------------------------------------------------------------------------------

// 16 bytes of a row, ready for arithmetic: floats widened, bytes packed by four.
template <class T> struct Piece;
template <> struct Piece<float> { float x[4]; };
template <> struct Piece<__half> { float x[8]; };
template <> struct Piece<uint8_t> { uint32_t x[4]; };
template <> struct Piece<int8_t> { uint32_t x[4]; };

// The type of query elements that meet rows of T.
template <class T> struct QueryOf { typedef T Type; };
template <> struct QueryOf<__half> { typedef float Type; };

// Bytes of `Other` elements that face a segment of T.
template <class T, class Other> struct Facing {
    static const int BYTES = SEGMENT / int(sizeof(T)) * int(sizeof(Other));
};

template <class T> __device__ __forceinline__ Piece<T> words_at(const unsigned char* at) {
    const uint4 v = *reinterpret_cast<const uint4*>(at);
    return Piece<T>{{v.x, v.y, v.z, v.w}};
}

// The piece of T that begins at `at`, whose elements are stored as `From`.
template <class T, class From> struct Load;
template <> struct Load<float, float> {
    static __device__ __forceinline__ Piece<float> from(const unsigned char* at) {
        const float4 v = *reinterpret_cast<const float4*>(at);
        return Piece<float>{{v.x, v.y, v.z, v.w}};
    }
};
template <> struct Load<__half, __half> {
    static __device__ __forceinline__ Piece<__half> from(const unsigned char* at) {
        const __half2* pairs = reinterpret_cast<const __half2*>(at);
        Piece<__half> piece;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const float2 v = __half22float2(pairs[i]);
            piece.x[2 * i] = v.x;
            piece.x[2 * i + 1] = v.y;
        }
        return piece;
    }
};
template <> struct Load<__half, float> {
    static __device__ __forceinline__ Piece<__half> from(const unsigned char* at) {
        const float4 v = *reinterpret_cast<const float4*>(at);
        const float4 w = *reinterpret_cast<const float4*>(at + 16);
        return Piece<__half>{{v.x, v.y, v.z, v.w, w.x, w.y, w.z, w.w}};
    }
};
template <> struct Load<uint8_t, uint8_t> {
    static __device__ __forceinline__ Piece<uint8_t> from(const unsigned char* at) {
        return words_at<uint8_t>(at);
    }
};
template <> struct Load<int8_t, int8_t> {
    static __device__ __forceinline__ Piece<int8_t> from(const unsigned char* at) {
        return words_at<int8_t>(at);
    }
};

// ---- sums ---------------------------------------------------------------------------------------------------------

// What a sum over elements is taken in: 32-bit floats, or exact 32-bit integers (16,384 * 255^2 fits).
template <class T> struct Sum { typedef int32_t Type; };
template <> struct Sum<float> { typedef float Type; };
template <> struct Sum<__half> { typedef float Type; };

template <Metric M> __device__ __forceinline__ float add(float sum, float a, float b) {
    if (M == L1) return sum + fabsf(a - b);
    if (M == L2) return fmaf(a - b, a - b, sum);
    return fmaf(a, b, sum);
}

// Squared differences of integers come from the dot product and the norms, so L2 sums products here.
template <Metric M> __device__ __forceinline__ int32_t add4(int32_t sum, uint32_t a, uint32_t b, uint8_t) {
    if (M == L1) return sum + int32_t(__vsadu4(a, b));
    return int32_t(__dp4a(a, b, uint32_t(sum)));
}
template <Metric M> __device__ __forceinline__ int32_t add4(int32_t sum, uint32_t a, uint32_t b, int8_t) {
    if (M == L1) return sum + int32_t(__vsads4(a, b));
    return __dp4a(int32_t(a), int32_t(b), sum);
}

template <Metric M, class T> struct Add {
    static __device__ __forceinline__ int32_t piece(int32_t sum, const Piece<T>& a, const Piece<T>& b) {
#pragma unroll
        for (int i = 0; i < 4; ++i) sum = add4<M>(sum, a.x[i], b.x[i], T());
        return sum;
    }
};
template <Metric M> struct Add<M, float> {
    static __device__ __forceinline__ float piece(float sum, const Piece<float>& a, const Piece<float>& b) {
#pragma unroll
        for (int i = 0; i < 4; ++i) sum = add<M>(sum, a.x[i], b.x[i]);
        return sum;
    }
};
template <Metric M> struct Add<M, __half> {
    static __device__ __forceinline__ float piece(float sum, const Piece<__half>& a, const Piece<__half>& b) {
#pragma unroll
        for (int i = 0; i < 8; ++i) sum = add<M>(sum, a.x[i], b.x[i]);
        return sum;
    }
};

// The distance, from the sum and the factors of both rows.
template <Metric M> __device__ __forceinline__ float distance(float sum, uint32_t a, uint32_t b) {
    if (M == COSINE) return 1.0f - sum * __uint_as_float(a) * __uint_as_float(b);
    return M == DOT ? -sum : sum;
}
template <Metric M> __device__ __forceinline__ float distance(int32_t sum, uint32_t a, uint32_t b) {
    if (M == COSINE) return 1.0f - float(sum) * __uint_as_float(a) * __uint_as_float(b);
    if (M == L2) return __uint2float_rn(a + b - 2u * uint32_t(sum));
    return __int2float_rn(M == DOT ? -sum : sum);
}

// Whether factors are read at all: the buffer may be missing otherwise.
template <Metric M, class T> __device__ __forceinline__ uint32_t factor(const uint32_t* factors, uint32_t row) {
    const bool is_integer = sizeof(T) == 1;
    return M == COSINE || (M == L2 && is_integer) ? factors[row] : 0u;
}

// ---- keys ---------------------------------------------------------------------------------------------------------

// Bits that order as the floats do; zero has no sign.
__device__ __forceinline__ uint32_t ordered(float distance) {
    const uint32_t bits = __float_as_uint(distance + 0.0f);
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}

// Orders by distance, then by slot. No key is above NO_KEY.
__device__ __forceinline__ Key key_of(float distance, uint32_t slot) {
    return Key(ordered(distance)) << 32 | slot;
}
const Key NO_KEY = ~0ull;

// ---- copies -------------------------------------------------------------------------------------------------------

// Starts the copy of 16 bytes into shared memory; it has ended after `__pipeline_wait_prior` and a barrier.
__device__ __forceinline__ void copy16(unsigned char* to, const unsigned char* from) {
    __pipeline_memcpy_async(to, from, 16);
}

// Starts the copy of one segment of `N` rows, `WIDTH` bytes each, from row `first` on. Rows past `last` are copies of
// it: their results are never looked at.
template <int N, int WIDTH, int THREADS>
__device__ __forceinline__ void copy_segment(unsigned char* to, const unsigned char* rows, uint32_t first,
                                             uint32_t last, uint32_t stride, uint32_t segment) {
    const int per_row = WIDTH / 16;
    for (int i = threadIdx.x; i < N * per_row; i += THREADS) {
        const uint32_t row = least(first + i / per_row, last);
        const unsigned char* from = rows + size_t(row) * stride + size_t(segment) * WIDTH;
        copy16(to + (i / per_row) * (WIDTH + PAD) + i % per_row * 16, from + i % per_row * 16);
    }
}

}  // namespace nearkin

// One entry point per metric for a template over metrics; T and its name as in the Rust `Dtype`.
#define FOR_METRICS(MAKE, T, dtype) \
    MAKE(COSINE, cosine, T, dtype)  \
    MAKE(DOT, dot, T, dtype)        \
    MAKE(L2, l2, T, dtype)          \
    MAKE(L1, l1, T, dtype)
#define FOR_KINDS(MAKE)              \
    FOR_METRICS(MAKE, float, f32)    \
    FOR_METRICS(MAKE, __half, f16)   \
    FOR_METRICS(MAKE, uint8_t, u8)   \
    FOR_METRICS(MAKE, int8_t, int8)
// What the int8 tensor cores compute: everything of integers but L1.
#define FOR_PRODUCTS(MAKE)              \
    MAKE(COSINE, cosine, uint8_t, u8)   \
    MAKE(DOT, dot, uint8_t, u8)         \
    MAKE(L2, l2, uint8_t, u8)           \
    MAKE(COSINE, cosine, int8_t, int8)  \
    MAKE(DOT, dot, int8_t, int8)        \
    MAKE(L2, l2, int8_t, int8)
