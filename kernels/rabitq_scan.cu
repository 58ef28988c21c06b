// Operation `rabitq_scan`: rows whose lower bound may be within the k-th least upper bound of their scan.
//
// In: sign planes by blocks of 32 rows [n_rows / 32, n_words, 32] of 64-bit words, extra planes [n_rows, 3, n_words], factors
// [n_rows] of both, per query 4 + 8 planes [12, n_words] and scalars, items [n, 4] = scan, query, first row, past row. Out:
// candidates [capacity]; `found` counts all. A candidate had lower <= bound when it was met; the bound only falls, so the host,
// which knows the last bound, drops the rest.
// Launch: one block per item, 128 threads, one row each. The one-bit estimate decides first; rows under the bound gather in shared
// memory and are looked at with all planes by full warps. Dynamic shared memory: planes [12, n_words], then the ring of uppers
// [capacity of ring]. Bound by popcounts: 4 per word and row.
// Paper: Gao, Long, "RaBitQ", SIGMOD 2024, section 3; order of work as in cuVS IVF-RaBitQ, 2026.
#include "top_k.cuh"

using namespace nearkin;

struct RowFactors {
    float add, rescale, err;
};

struct QueryScalars {
    float lo, step, sum, err;  // of the sign plane
    float fine_lo, fine_step, fine_sum, fine_err;
    float add, unused[3];
};

struct Candidate {
    uint32_t scan, slot;
    float estimate, lower, upper;
};

struct RabitqScanArgs {
    const Key* signs;
    const Key* extra;
    const RowFactors* coarse;
    const RowFactors* fine;
    const Key* planes;
    const QueryScalars* queries;
    const uint32_t* items;
    const uint32_t* ks;  // [n_scans]
    Key* bounds;         // [n_scans]
    const uint32_t* allow;
    Candidate* out;
    uint32_t* found;
    uint32_t n_words, capacity, ring_capacity, unused;
};

namespace {

const int THREADS = 128;
const int COARSE_PLANES = 4, FINE_PLANES = 8, EXTRA_PLANES = 3;

// The order of operations is the contract of `codes::estimate`: no fused multiply-add.
__device__ __forceinline__ float estimate(const RowFactors& row, float add, float lo, float step, float sum, uint32_t dot,
                                          uint32_t ones, float centre) {
    const float product =
        __fadd_rn(__fmul_rn(lo, __uint2float_rn(ones)), __fmul_rn(step, __uint2float_rn(dot)));
    const float centred = __fadd_rn(product, __fmul_rn(centre, sum));
    return __fadd_rn(__fadd_rn(row.add, add), __fmul_rn(row.rescale, centred));
}

struct Scan {
    const RabitqScanArgs& args;
    const Key* planes;  // of the query, in shared memory
    const QueryScalars query;
    const Ring uppers;
    uint32_t* pending;  // slots of rows that the sign plane did not rule out
    float2* pending_bounds;
    uint32_t* n_pending;
    uint32_t scan, k;

    __device__ __forceinline__ Key sign(uint32_t row, uint32_t word) const {
        return args.signs[(size_t(row / 32) * args.n_words + word) * 32 + row % 32];
    }

    // Adds a word of one plane to <u, n> and to the ones.
    template <int N>
    __device__ __forceinline__ void look(Key word, const Key* at, uint32_t& dot, uint32_t& ones, int weight) const {
        ones += uint32_t(__popcll(word)) << weight;
#pragma unroll
        for (int p = 0; p < N; ++p) dot += uint32_t(__popcll(word & at[p * args.n_words])) << (p + weight);
    }

    // Lower and upper bound by the sign plane.
    __device__ float2 coarse(uint32_t row) const {
        uint32_t dot = 0, ones = 0;
        for (uint32_t w = 0; w < args.n_words; ++w) look<COARSE_PLANES>(sign(row, w), planes + w, dot, ones, 0);
        const RowFactors own = args.coarse[row];
        const float middle = estimate(own, query.add, query.lo, query.step, query.sum, dot, ones, -0.5f);
        const float err = __fmul_rn(own.err, query.err);
        return make_float2(__fsub_rn(middle, err), __fadd_rn(middle, err));
    }

    __device__ Candidate fine(uint32_t row, float2 coarse) const {
        const Key* at = planes + COARSE_PLANES * args.n_words;
        const Key* extra = args.extra + size_t(row) * EXTRA_PLANES * args.n_words;
        uint32_t dot = 0, ones = 0;
        for (uint32_t w = 0; w < args.n_words; ++w) {
            look<FINE_PLANES>(sign(row, w), at + w, dot, ones, EXTRA_PLANES);
            for (int e = 0; e < EXTRA_PLANES; ++e)
                look<FINE_PLANES>(extra[e * args.n_words + w], at + w, dot, ones, e);
        }
        const RowFactors own = args.fine[row];
        const float middle =
            estimate(own, query.add, query.fine_lo, query.fine_step, query.fine_sum, dot, ones, -7.5f);
        const float err = __fmul_rn(own.err, query.fine_err);
        const float lower = fmaxf(coarse.x, __fsub_rn(middle, err));
        const float upper = fmaxf(fminf(coarse.y, __fadd_rn(middle, err)), lower);
        return Candidate{scan, row, middle, lower, upper};
    }

    __device__ __forceinline__ bool is_under(float lower) const { return ordered(lower) <= uint32_t(*uppers.bound >> 32); }

    // Sign planes of 128 rows. All threads call; ends with a barrier.
    __device__ void take_rows(uint32_t row, uint32_t past) const {
        const bool is_row = row < past && (!args.allow || args.allow[row / 32] >> row % 32 & 1);
        float2 bounds = make_float2(0.0f, 0.0f);
        if (is_row) bounds = coarse(row);
        const bool keep = is_row && is_under(bounds.x);
        const uint32_t set = __ballot_sync(ALL_LANES, keep), lane = lane_id();
        uint32_t base = 0;
        if (lane == 0 && set) base = atomicAdd(n_pending, uint32_t(__popc(set)));
        base = __shfl_sync(ALL_LANES, base, 0) + __popc(set & ((1u << lane) - 1));
        if (keep) {
            pending[base] = row;
            pending_bounds[base] = bounds;
        }
        __syncthreads();
    }

    // All planes of up to 128 pending rows, the last ones. All threads call, after a barrier; ends with one.
    __device__ void take_pending() const {
        const uint32_t n = *n_pending, from = n > THREADS ? n - THREADS : 0, at = from + threadIdx.x;
        Candidate one = {};
        bool keep = at < n && is_under(pending_bounds[at < n ? at : 0].x);
        if (keep) one = fine(pending[at], pending_bounds[at]);
        keep = keep && is_under(one.lower);
        const uint32_t set = __ballot_sync(ALL_LANES, keep), lane = lane_id();
        uint32_t base = 0;
        if (lane == 0 && set) base = atomicAdd(args.found, uint32_t(__popc(set)));
        base = __shfl_sync(ALL_LANES, base, 0) + __popc(set & ((1u << lane) - 1));
        if (keep && base < args.capacity) args.out[base] = one;
        const Key key = key_of(one.upper, one.slot);
        uppers.append(key, keep && key <= *uppers.bound);
        __syncthreads();
        if (threadIdx.x == 0) *n_pending = from;
        if (*uppers.count + THREADS > args.ring_capacity) uppers.compact<THREADS>(k);
        if (threadIdx.x == 0) uppers.refresh();
        __syncthreads();
    }
};

__device__ __forceinline__ void rabitq_scan(const RabitqScanArgs& args) {
    DYNAMIC_SHARED(shared);
    __shared__ uint32_t pending[2 * THREADS], n_pending, n_uppers;
    __shared__ float2 pending_bounds[2 * THREADS];
    __shared__ Key bound;
    const uint32_t* item = args.items + size_t(blockIdx.x) * 4;
    const uint32_t n_scan = item[0], n_query = item[1], first = item[2], past = item[3];
    const uint32_t n_plane_words = (COARSE_PLANES + FINE_PLANES) * args.n_words;
    Key* planes = reinterpret_cast<Key*>(shared);
    for (uint32_t i = threadIdx.x; i < n_plane_words; i += THREADS)
        planes[i] = args.planes[size_t(n_query) * n_plane_words + i];
    if (threadIdx.x == 0) {
        n_pending = n_uppers = 0;
        bound = __ldcg(args.bounds + n_scan);
    }
    __syncthreads();
    const Ring uppers = {planes + n_plane_words, &n_uppers, &bound, args.bounds + n_scan};
    const Scan scan = {args,    planes,          args.queries[n_query], uppers,
                       pending, pending_bounds, &n_pending,            n_scan, args.ks[n_scan]};
    for (uint32_t row = first; row < past; row += least(THREADS, past - row)) {
        scan.take_rows(row + threadIdx.x, past);
        // Read by all before a faster warp adds more.
        const bool is_full = n_pending >= THREADS;
        __syncthreads();
        if (is_full) scan.take_pending();
    }
    while (n_pending > 0) scan.take_pending();
}

}  // namespace

KERNEL(rabitq_scan_u64, THREADS, RabitqScanArgs, (rabitq_scan))
