// All sums between 64 rows of one side and 64 of the other, four by four per thread, for small blocks and float rows.
#pragma once

#include "common.cuh"

namespace nearkin {

const int TILE_SIDE = 64;
const int TILE_THREADS = 256;
const int TILE_STAGES = 3;

// One side of a tile: rows [first, last] of a block whose rows are `stride` bytes apart.
struct Side {
    const unsigned char* rows;
    uint32_t first, last, stride;
};

// A is stored as T and decides the arithmetic; B is stored as `Other`.
template <Metric M, class T, class Other> struct Tile {
    static const int A_BYTES = SEGMENT, B_BYTES = Facing<T, Other>::BYTES;
    static const int A_PITCH = A_BYTES + PAD, B_PITCH = B_BYTES + PAD;
    static const int STAGE_BYTES = TILE_SIDE * (A_PITCH + B_PITCH);
    typename Sum<T>::Type sum[4][4];

    // Row of A and of B, from the first on, that sum [i][j] belongs to.
    static __device__ __forceinline__ uint32_t a(int i) { return threadIdx.x / 16 + i * 16; }
    static __device__ __forceinline__ uint32_t b(int j) { return threadIdx.x % 16 + j * 16; }

    // All threads call. `stages` holds TILE_STAGES stages; free again after the next barrier.
    __device__ __forceinline__ void compute(unsigned char* stages, const Side& left, const Side& right) {
        const uint32_t n = left.stride / SEGMENT;
#pragma unroll
        for (int i = 0; i < 4; ++i)
#pragma unroll
            for (int j = 0; j < 4; ++j) sum[i][j] = 0;
#pragma unroll 1
        for (uint32_t s = 0; s < TILE_STAGES - 1; ++s) fetch(stages, left, right, s, n);
#pragma unroll 1
        for (uint32_t s = 0; s < n; ++s) {
            __pipeline_wait_prior(TILE_STAGES - 2);
            __syncthreads();
            fetch(stages, left, right, s + TILE_STAGES - 1, n);
            segment(stages + s % TILE_STAGES * STAGE_BYTES);
        }
        __pipeline_wait_prior(0);
    }

  private:
    __device__ __forceinline__ void fetch(unsigned char* stages, const Side& left, const Side& right, uint32_t s,
                                          uint32_t n) {
        if (s < n) {
            unsigned char* stage = stages + s % TILE_STAGES * STAGE_BYTES;
            copy_segment<TILE_SIDE, A_BYTES, TILE_THREADS>(stage, left.rows, left.first, left.last, left.stride, s);
            copy_segment<TILE_SIDE, B_BYTES, TILE_THREADS>(stage + TILE_SIDE * A_PITCH, right.rows, right.first,
                                                           right.last, right.stride, s);
        }
        __pipeline_commit();
    }

    __device__ __forceinline__ void segment(const unsigned char* stage) {
#pragma unroll 1
        for (int p = 0; p < SEGMENT / 16; ++p) {
            Piece<T> left[4];
#pragma unroll
            for (int i = 0; i < 4; ++i) left[i] = Load<T, T>::from(stage + a(i) * A_PITCH + p * 16);
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                const unsigned char* at = stage + TILE_SIDE * A_PITCH + b(j) * B_PITCH + p * (B_BYTES / 4);
                const Piece<T> right = Load<T, Other>::from(at);
#pragma unroll
                for (int i = 0; i < 4; ++i) sum[i][j] = Add<M, T>::piece(sum[i][j], left[i], right);
            }
        }
    }
};

}  // namespace nearkin
