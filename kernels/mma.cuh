// int8 tensor cores: D[16, 8] += A[16, 32] B[32, 8] over one warp, exact 32-bit sums.
//
// Lane `l` has g = l / 4 and t = l % 4. It holds of A, 4 bytes each: (row g, k 4t), (g + 8, 4t), (g, 4t + 16), (g + 8, 4t + 16);
// of B: (k 4t, column g), (4t + 16, g); of D: (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1).
// Source: PTX ISA, "Matrix Fragments for mma.m16n8k32".
#pragma once

#include "common.cuh"

#ifdef __CUDACC__
__device__ __forceinline__ void mma_m16n8k32(int32_t (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], int8_t) {
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
__device__ __forceinline__ void mma_m16n8k32(int32_t (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], uint8_t) {
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.u8.u8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#endif

namespace nearkin {

// The sums of one warp: MT tiles of 16 rows by NT tiles of 8 columns.
template <class T, int MT, int NT> struct Fragments {
    int32_t sum[MT][NT][4];

    __device__ __forceinline__ void zero() {
#pragma unroll
        for (int m = 0; m < MT; ++m)
#pragma unroll
            for (int n = 0; n < NT; ++n)
#pragma unroll
                for (int i = 0; i < 4; ++i) sum[m][n][i] = 0;
    }

    // Adds one segment: rows `a` and columns `b`, each SEGMENT + PAD bytes apart, from the warp's first on.
    __device__ __forceinline__ void segment(const unsigned char* a, const unsigned char* b) {
        const uint32_t g = lane_id() / 4, t = lane_id() % 4, pitch = SEGMENT + PAD;
#pragma unroll
        for (int k = 0; k < SEGMENT; k += 32) {
            uint32_t left[MT][4];
#pragma unroll
            for (int m = 0; m < MT; ++m)
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    const unsigned char* at = a + (m * 16 + g + i % 2 * 8) * pitch + k + t * 4 + i / 2 * 16;
                    left[m][i] = *reinterpret_cast<const uint32_t*>(at);
                }
#pragma unroll
            for (int n = 0; n < NT; ++n) {
                const unsigned char* at = b + (n * 8 + g) * pitch + k + t * 4;
                const uint32_t right[2] = {*reinterpret_cast<const uint32_t*>(at),
                                           *reinterpret_cast<const uint32_t*>(at + 16)};
#pragma unroll
                for (int m = 0; m < MT; ++m) mma_m16n8k32(sum[m][n], left[m], right, T());
            }
        }
    }

    // Row and column of sum i of tile (m, n), from the warp's first on.
    static __device__ __forceinline__ uint32_t row(int m, int i) { return m * 16 + lane_id() / 4 + i / 2 * 8; }
    static __device__ __forceinline__ uint32_t column(int n, int i) { return n * 8 + lane_id() % 4 * 2 + i % 2; }
};

}  // namespace nearkin
