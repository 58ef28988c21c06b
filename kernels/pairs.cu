// Operation `pairs`: all (a, b, distance) of the tiles whose distance is at most `within`, in no order.
//
// In: tiles [n, 4]: first and last of A, first and last of B, all inclusive, at most 128 (integers) or 64 rows a side. Out: pairs
// [capacity, 3]; `found` counts all, so that an overflow is seen. Both sides of a self-join are one: a row is not its own pair.
// Launch: one block per tile, 256 threads; dynamic shared memory: the stages of a tile. Integer products run on int8 tensor cores (8 warps of 64 x 32 sums), the others four
// by four per thread. Bound by arithmetic: no top-k, a ballot and one atomic per warp and result column.
#include "mma.cuh"
#include "tile.cuh"

using namespace nearkin;

struct PairsArgs {
    const unsigned char* a;
    const uint32_t* a_factors;
    const unsigned char* b;
    const uint32_t* b_factors;
    const uint32_t* tiles;
    uint32_t* out;
    uint32_t* found;
    uint32_t stride, capacity, is_self;
    float within;
};

namespace {

const int TENSOR_SIDE = 128;
const int TENSOR_STAGES = 2;

// Writes the pairs of all lanes that keep theirs. All lanes of the warp call.
__device__ __forceinline__ void emit(const PairsArgs& args, uint32_t a, uint32_t b, float distance, bool is_pair) {
    const bool keep = is_pair && distance <= args.within && !(args.is_self && a == b);
    const uint32_t set = __ballot_sync(ALL_LANES, keep);
    if (!set) return;
    const uint32_t lane = lane_id(), leader = __ffs(set) - 1;
    uint32_t base = 0;
    if (lane == leader) base = atomicAdd(args.found, uint32_t(__popc(set)));
    base = __shfl_sync(ALL_LANES, base, leader);
    const uint32_t at = base + __popc(set & ((1u << lane) - 1));
    if (!keep || at >= args.capacity) return;
    uint32_t* pair = args.out + size_t(at) * 3;
    pair[0] = a;
    pair[1] = b;
    pair[2] = __float_as_uint(distance);
}

template <Metric M, class T> __device__ __forceinline__ void pairs(const PairsArgs& args) {
    typedef Tile<M, T, T> Block;
    DYNAMIC_SHARED(stages);
    const uint32_t* tile = args.tiles + size_t(blockIdx.x) * 4;
    const uint32_t a0 = tile[0], a_last = tile[1], b0 = tile[2], b_last = tile[3];
    Block block;
    block.compute(stages, Side{args.a, a0, a_last, args.stride}, Side{args.b, b0, b_last, args.stride});
#pragma unroll
    for (int i = 0; i < 4; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            const uint32_t a = least(a0 + Block::a(i), a_last), b = least(b0 + Block::b(j), b_last);
            const float d = distance<M>(block.sum[i][j], factor<M, T>(args.a_factors, a), factor<M, T>(args.b_factors, b));
            emit(args, a, b, d, a == a0 + Block::a(i) && b == b0 + Block::b(j));
        }
}

template <Metric M, class T> __device__ __forceinline__ void tensor_pairs(const PairsArgs& args) {
    const int side_bytes = TENSOR_SIDE * (SEGMENT + PAD);
    DYNAMIC_SHARED(stages);
    const uint32_t* tile = args.tiles + size_t(blockIdx.x) * 4;
    const uint32_t a0 = tile[0], a_last = tile[1], b0 = tile[2], b_last = tile[3];
    const uint32_t warp = threadIdx.x / 32, a_warp = warp / 4 * 64, b_warp = warp % 4 * 32;
    const uint32_t n = args.stride / SEGMENT;
    Fragments<T, 4, 4> sums;
    sums.zero();
    const auto fetch = [&](uint32_t s) {
        unsigned char* stage = stages + s % TENSOR_STAGES * 2 * side_bytes;
        if (s < n) {
            copy_segment<TENSOR_SIDE, SEGMENT, TILE_THREADS>(stage, args.a, a0, a_last, args.stride, s);
            copy_segment<TENSOR_SIDE, SEGMENT, TILE_THREADS>(stage + side_bytes, args.b, b0, b_last, args.stride, s);
        }
        __pipeline_commit();
    };
    fetch(0);
    for (uint32_t s = 0; s < n; ++s) {
        __pipeline_wait_prior(0);
        __syncthreads();
        fetch(s + 1);
        const unsigned char* stage = stages + s % TENSOR_STAGES * 2 * side_bytes;
        sums.segment(stage + a_warp * (SEGMENT + PAD), stage + side_bytes + b_warp * (SEGMENT + PAD));
    }
    __pipeline_wait_prior(0);
#pragma unroll
    for (int m = 0; m < 4; ++m)
#pragma unroll
        for (int k = 0; k < 4; ++k)
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const uint32_t x = a0 + a_warp + sums.row(m, i), y = b0 + b_warp + sums.column(k, i);
                const uint32_t a = least(x, a_last), b = least(y, b_last);
                const float d =
                    distance<M>(sums.sum[m][k][i], factor<M, T>(args.a_factors, a), factor<M, T>(args.b_factors, b));
                emit(args, a, b, d, a == x && b == y);
            }
}

}  // namespace

#define MAKE(M, metric, T, dtype) KERNEL(pairs_##metric##_##dtype, TILE_THREADS, PairsArgs, (pairs<M, T>))
FOR_METRICS(MAKE, float, f32)
FOR_METRICS(MAKE, __half, f16)
MAKE(L1, l1, uint8_t, u8)
MAKE(L1, l1, int8_t, int8)
#define MAKE_TENSOR(M, metric, T, dtype) \
    KERNEL(pairs_##metric##_##dtype, TILE_THREADS, PairsArgs, (tensor_pairs<M, T>))
FOR_PRODUCTS(MAKE_TENSOR)
