// Operation `distances`: all distances between queries and the rows [first, first + n_rows): out [n_queries, n_rows] f32.
//
// Launch: grid (tiles of 64 rows, tiles of 64 queries), 256 threads; dynamic shared memory: the stages of a tile. Bound by arithmetic, and by the
// writing of the result: for small blocks.
#include "tile.cuh"

using namespace nearkin;

struct DistancesArgs {
    const unsigned char* rows;
    const uint32_t* row_factors;
    const unsigned char* queries;
    const uint32_t* query_factors;
    float* out;
    uint32_t first, n_rows, n_queries, stride, query_stride, unused;
};

template <Metric M, class T> __device__ __forceinline__ void distances(const DistancesArgs& args) {
    typedef Tile<M, T, typename QueryOf<T>::Type> Block;
    DYNAMIC_SHARED(stages);
    const uint32_t row0 = blockIdx.x * TILE_SIDE, query0 = blockIdx.y * TILE_SIDE;
    Block block;
    block.compute(stages, Side{args.rows, args.first + row0, args.first + args.n_rows - 1, args.stride},
                  Side{args.queries, query0, args.n_queries - 1, args.query_stride});
#pragma unroll
    for (int i = 0; i < 4; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            const uint32_t row = row0 + Block::a(i), query = query0 + Block::b(j);
            if (row >= args.n_rows || query >= args.n_queries) continue;
            const uint32_t own = factor<M, T>(args.row_factors, args.first + row);
            const uint32_t other = factor<M, T>(args.query_factors, query);
            args.out[size_t(query) * args.n_rows + row] = distance<M>(block.sum[i][j], own, other);
        }
}

#define MAKE(M, metric, T, dtype) KERNEL(distances_##metric##_##dtype, TILE_THREADS, DistancesArgs, (distances<M, T>))
FOR_KINDS(MAKE)
