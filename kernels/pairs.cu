// Operation `pairs`: all (a, b, distance) of the tiles whose distance is at most `within`, in no order.
//
// In: tiles [n, 4]: first and last of A, first and last of B, all inclusive, at most 128 (integers) or 64 rows a side. Out: pairs
// [capacity, 3]; `found` counts all, so that an overflow is seen. Both sides of a self-join are one: a row is not its own pair.
// Launch: one block per tile, 256 threads; dynamic shared memory: the stages of a tile. Integer products run on int8 tensor cores (8 warps of 64 x 32 sums), the others four
// by four per thread. Bound by arithmetic: no top-k, one atomic per warp that finds any.
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

// Writes the pairs of a warp: each lane holds N distances, and `place` names the rows of each. One atomic per warp that has
// any. All lanes call.
template <int N, class Place>
__device__ __forceinline__ void emit(const PairsArgs& args, const float (&distances)[N], const Place& place) {
    uint64_t hits = 0;
#pragma unroll
    for (int i = 0; i < N; ++i) {
        uint32_t a, b;
        const bool is_pair = place(i, a, b) && distances[i] <= args.within && !(args.is_self && a == b);
        hits |= uint64_t(is_pair) << i;
    }
    const uint32_t n = __popcll(hits), lane = lane_id();
    uint32_t upto = n;
#pragma unroll
    for (uint32_t step = 1; step < 32; step *= 2) {
        const uint32_t other = __shfl_up_sync(ALL_LANES, upto, step);
        if (lane >= step) upto += other;
    }
    const uint32_t total = __shfl_sync(ALL_LANES, upto, 31);
    if (!total) return;
    uint32_t base = 0;
    if (lane == 31) base = atomicAdd(args.found, total);
    uint32_t at = __shfl_sync(ALL_LANES, base, 31) + upto - n;
#pragma unroll
    for (int i = 0; i < N; ++i) {
        if (!(hits >> i & 1)) continue;
        uint32_t a, b;
        place(i, a, b);
        if (at < args.capacity) {
            uint32_t* pair = args.out + size_t(at) * 3;
            pair[0] = a;
            pair[1] = b;
            pair[2] = __float_as_uint(distances[i]);
        }
        ++at;
    }
}

template <Metric M, class T> __device__ __forceinline__ void pairs(const PairsArgs& args) {
    typedef Tile<M, T, T> Block;
    DYNAMIC_SHARED(stages);
    const uint32_t* tile = args.tiles + size_t(blockIdx.x) * 4;
    const uint32_t a0 = tile[0], a_last = tile[1], b0 = tile[2], b_last = tile[3];
    Block block;
    block.compute(stages, Side{args.a, a0, a_last, args.stride}, Side{args.b, b0, b_last, args.stride});
    float distances[16];
    const auto place = [&](int at, uint32_t& a, uint32_t& b) {
        a = a0 + Block::a(at / 4);
        b = b0 + Block::b(at % 4);
        return a <= a_last && b <= b_last;
    };
#pragma unroll
    for (int i = 0; i < 16; ++i) {
        uint32_t a, b;
        place(i, a, b);
        const uint32_t own = factor<M, T>(args.a_factors, least(a, a_last));
        distances[i] = distance<M>(block.sum[i / 4][i % 4], own, factor<M, T>(args.b_factors, least(b, b_last)));
    }
    emit(args, distances, place);
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
#pragma unroll 1
    for (uint32_t s = 0; s < n; ++s) {
        __pipeline_wait_prior(0);
        __syncthreads();
        fetch(s + 1);
        const unsigned char* stage = stages + s % TENSOR_STAGES * 2 * side_bytes;
        sums.segment(stage + a_warp * (SEGMENT + PAD), stage + side_bytes + b_warp * (SEGMENT + PAD));
    }
    __pipeline_wait_prior(0);
    float distances[64];
    const auto place = [&](int at, uint32_t& a, uint32_t& b) {
        a = a0 + a_warp + sums.row(at / 16, at % 4);
        b = b0 + b_warp + sums.column(at / 4 % 4, at % 4);
        return a <= a_last && b <= b_last;
    };
#pragma unroll
    for (int i = 0; i < 64; ++i) {
        uint32_t a, b;
        place(i, a, b);
        const uint32_t own = factor<M, T>(args.a_factors, least(a, a_last));
        const uint32_t other = factor<M, T>(args.b_factors, least(b, b_last));
        distances[i] = distance<M>(sums.sum[i / 16][i / 4 % 4][i % 4], own, other);
    }
    emit(args, distances, place);
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
