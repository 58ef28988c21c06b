// Operation `assign`: the nearest centroid of the rows [first, first + n_rows): keys [n_rows], ties by centroid.
//
// Launch: grid (tiles of 64 rows), 256 threads; a block meets all centroids, 64 at a time; dynamic shared memory:
// the stages of a tile. Bound by arithmetic.
#include "tile.cuh"

using namespace nearkin;

struct AssignArgs {
    const unsigned char* rows;
    const uint32_t* row_factors;
    const unsigned char* centroids;
    const uint32_t* centroid_factors;
    Key* out;
    uint32_t first, n_rows, n_centroids, stride, centroid_stride, unused;
};

template <Metric M, class T> __device__ __forceinline__ void assign(const AssignArgs& args) {
    typedef Tile<M, T, typename QueryOf<T>::Type> Block;
    DYNAMIC_SHARED(stages);
    const uint32_t row0 = blockIdx.x * TILE_SIDE, last = args.n_rows - 1;
    Key nearest[4] = {NO_KEY, NO_KEY, NO_KEY, NO_KEY};
#pragma unroll 1
    for (uint32_t c0 = 0; c0 < args.n_centroids; c0 += TILE_SIDE) {
        Block block;
        block.compute(stages, Side{args.rows, args.first + row0, args.first + last, args.stride},
                      Side{args.centroids, c0, args.n_centroids - 1, args.centroid_stride});
#pragma unroll
        for (int i = 0; i < 4; ++i)
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                const uint32_t c = c0 + Block::b(j);
                if (c >= args.n_centroids) continue;
                const uint32_t own = factor<M, T>(args.row_factors, args.first + least(row0 + Block::a(i), last));
                const uint32_t other = factor<M, T>(args.centroid_factors, c);
                const Key key = key_of(distance<M>(block.sum[i][j], own, other), c);
                if (key < nearest[i]) nearest[i] = key;
            }
        __syncthreads();
    }
    // Sixteen neighboring lanes hold the same four rows.
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        for (int step = 8; step > 0; step /= 2) {
            const Key other = __shfl_xor_sync(ALL_LANES, nearest[i], step);
            if (other < nearest[i]) nearest[i] = other;
        }
        const uint32_t row = row0 + Block::a(i);
        if (threadIdx.x % 16 == 0 && row < args.n_rows) args.out[row] = nearest[i];
    }
}

#define MAKE(M, metric, T, dtype) KERNEL(assign_##metric##_##dtype, TILE_THREADS, AssignArgs, (assign<M, T>))
FOR_KINDS(MAKE)
