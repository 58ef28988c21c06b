// Operation `flat_scan`: the k nearest allowed rows of every query, fused: distances are never written.
//
// In: rows [n_rows, stride bytes], queries [n_queries, query_stride bytes], factors of both, chunks [n_chunks, 2] of row
// numbers, optional bits of allowed rows. Out: keys [n_queries, k], ascending, and their count [n_queries].
// Launch: grid (groups of queries, workers); a worker walks chunks worker, worker + workers, ... in tiles of 128 rows, 64
// bytes of each row at a time through a ring of cp.async stages; tiles without an allowed row are not read. The last worker
// of a group merges. Dynamic shared memory: stages, the sums of a tile [queries, 128],
// then `group` rings of `capacity` keys.
// _q1, _q8: one row per thread, DP4A or FFMA, bound by memory (int8: up to about 18 queries); _mma: int8 tensor cores, 32
// queries, bound by arithmetic beyond. Bits are read from the cache: 10 M rows are 1.25 MB.
#include "mma.cuh"
#include "top_k.cuh"

using namespace nearkin;

struct FlatScanArgs {
    const unsigned char* rows;
    const uint32_t* row_factors;
    const unsigned char* queries;
    const uint32_t* query_factors;
    const uint32_t* n_queries;  // one number on the device: a captured launch serves every batch of its bucket
    const uint32_t* allow;      // one bit per row, or none: all rows
    const uint32_t* chunks;
    Key* bounds;                // [n_queries], from NO_KEY or from a sample
    Key* partial;               // [n_queries, workers, k]
    uint32_t* partial_counts;   // [n_queries, workers]
    uint32_t* done;             // [groups], 0 before and after
    Key* out;
    uint32_t* out_counts;
    uint32_t stride, query_stride, n_rows, n_chunks, k, capacity, group, keep_bound;
};

namespace {

const int TILE = 128;
const int THREADS = 128;
const int STAGES = 4;
const int TENSOR_STAGES = 3;

// One row per thread, `N` queries.
template <Metric M, class T, int N> struct Rows {
    typedef typename QueryOf<T>::Type Query;
    typedef T Element;
    static const Metric METRIC = M;
    static const int QUERIES = N;
    static const int N_STAGES = STAGES;
    static const int QUERY_BYTES = Facing<T, Query>::BYTES;
    typename Sum<T>::Type sum[N];

    __device__ __forceinline__ void zero() {
#pragma unroll
        for (int q = 0; q < N; ++q) sum[q] = 0;
    }
    __device__ __forceinline__ void segment(const unsigned char* rows, const unsigned char* queries) {
        const unsigned char* row = rows + threadIdx.x * (SEGMENT + PAD);
#pragma unroll(N == 1 ? 4 : 1)
        for (int p = 0; p < SEGMENT / 16; ++p) {
            const Piece<T> mine = Load<T, T>::from(row + p * 16);
#pragma unroll
            for (int q = 0; q < N; ++q) {
                const unsigned char* at = queries + q * (QUERY_BYTES + PAD) + p * (QUERY_BYTES / 4);
                sum[q] = Add<M, T>::piece(sum[q], mine, Load<T, Query>::from(at));
            }
        }
    }
    // Lays down the sums of a tile [queries, rows].
    __device__ __forceinline__ void store(typename Sum<T>::Type* tile) const {
#pragma unroll
        for (int q = 0; q < N; ++q) tile[q * TILE + threadIdx.x] = sum[q];
    }
};

// 32 rows per warp, 32 queries.
template <Metric M, class T> struct Tensor {
    typedef T Element;
    static const Metric METRIC = M;
    static const int QUERIES = 32;
    static const int N_STAGES = TENSOR_STAGES;
    static const int QUERY_BYTES = SEGMENT;
    Fragments<T, 2, 4> sums;

    __device__ __forceinline__ void zero() { sums.zero(); }
    __device__ __forceinline__ void segment(const unsigned char* rows, const unsigned char* queries) {
        sums.segment(rows + threadIdx.x / 32 * 32 * (SEGMENT + PAD), queries);
    }
    __device__ __forceinline__ void store(int32_t* tile) const {
        const uint32_t first = threadIdx.x / 32 * 32;
#pragma unroll
        for (int m = 0; m < 2; ++m)
#pragma unroll
            for (int n = 0; n < 4; ++n)
#pragma unroll
                for (int i = 0; i < 4; ++i)
                    tile[sums.column(n, i) * TILE + first + sums.row(m, i)] = sums.sum[m][n][i];
    }
};

// The tiles of one worker that hold an allowed row, each in all its segments. Every thread walks alike.
struct Walk {
    uint32_t chunk, row, end, segment;

    __device__ __forceinline__ bool is_live(const FlatScanArgs& args) const { return chunk < args.n_chunks; }
    __device__ void settle(const FlatScanArgs& args) {
        while (is_live(args)) {
            if (row >= end) {
                chunk += gridDim.y;
                if (is_live(args)) {
                    row = args.chunks[2 * chunk];
                    end = args.chunks[2 * chunk + 1];
                }
            } else if (has_allowed(args)) {
                return;
            } else {
                row += least(TILE, end - row);
            }
        }
    }
    __device__ bool has_allowed(const FlatScanArgs& args) const {
        if (!args.allow) return true;
        const uint32_t past = row + least(TILE, end - row);
        uint32_t any = 0;
#pragma unroll 1
        for (uint32_t word = row / 32; word * 32 < past; ++word) any |= args.allow[word];
        return any != 0;
    }
    __device__ void begin(const FlatScanArgs& args) {
        chunk = blockIdx.y;
        segment = 0;
        row = end = 0;
        if (is_live(args)) {
            row = args.chunks[2 * chunk];
            end = args.chunks[2 * chunk + 1];
        }
        settle(args);
    }
    __device__ void advance(const FlatScanArgs& args) {
        if (++segment < args.stride / SEGMENT) return;
        segment = 0;
        row += least(TILE, end - row);
        settle(args);
    }
};

template <class Sums> struct Scan {
    typedef typename Sums::Element T;
    static const int ROW_BYTES = TILE * (SEGMENT + PAD);
    static const int STAGE_BYTES = ROW_BYTES + Sums::QUERIES * (Sums::QUERY_BYTES + PAD);
    static const int N_STAGES = Sums::N_STAGES;
    static const int SUM_BYTES = Sums::QUERIES * TILE * 4;

    const FlatScanArgs& args;
    unsigned char* stages;
    uint32_t* counts;
    Key* bounds;
    uint32_t* factors;
    uint32_t first, n;  // queries of this group

    __device__ __forceinline__ Ring ring(uint32_t q) const {
        Key* keys = reinterpret_cast<Key*>(stages + N_STAGES * STAGE_BYTES + SUM_BYTES) + size_t(q) * args.capacity;
        return Ring{keys, counts + q, bounds + q, args.bounds + first + q};
    }

    __device__ __forceinline__ void fetch(Walk& walk, uint32_t step) const {
        if (walk.is_live(args)) {
            unsigned char* stage = stages + step % N_STAGES * STAGE_BYTES;
            copy_segment<TILE, SEGMENT, THREADS>(stage, args.rows, walk.row, walk.end - 1, args.stride, walk.segment);
            copy_segment<Sums::QUERIES, Sums::QUERY_BYTES, THREADS>(stage + ROW_BYTES, args.queries, first,
                                                                    first + n - 1, args.query_stride, walk.segment);
            walk.advance(args);
        }
        __pipeline_commit();
    }

    // Makes room for one more tile in every ring. All threads call; begins and ends with a barrier.
    __device__ void make_room() const {
        __syncthreads();
#pragma unroll 1
        for (uint32_t q = 0; q < n; ++q)
            if (counts[q] + TILE > args.capacity) ring(q).template compact<THREADS>(args.k);
        if (threadIdx.x < n) ring(threadIdx.x).refresh();
        __syncthreads();
    }

    __device__ void take_tile(const Sums& sums, const Walk& walk) const {
        typename Sum<T>::Type* tile = reinterpret_cast<typename Sum<T>::Type*>(stages + N_STAGES * STAGE_BYTES);
        sums.store(tile);
        __syncthreads();
        const uint32_t slot = walk.row + threadIdx.x;
        const bool is_row = threadIdx.x < walk.end - walk.row;
        const bool is_allowed = is_row && (!args.allow || args.allow[slot / 32] >> slot % 32 & 1);
        const uint32_t own = is_allowed ? factor<Sums::METRIC, T>(args.row_factors, slot) : 0u;
#pragma unroll 1
        for (uint32_t q = 0; q < n; ++q) {
            const float d = distance<Sums::METRIC>(tile[q * TILE + threadIdx.x], own, factors[q]);
            const Key key = key_of(d, slot);
            ring(q).append(key, is_allowed && key <= bounds[q]);
        }
        make_room();
    }

    __device__ void scan() const {
        Walk ahead, walk;
        ahead.begin(args);
        walk.begin(args);
        Sums sums;
        sums.zero();
        // Stage `step` is copied while stage `step - N_STAGES + 1` is looked at.
#pragma unroll 1
        for (uint32_t step = 0; walk.is_live(args); ++step) {
            const bool is_full = step >= N_STAGES - 1;
            if (is_full) {
                __pipeline_wait_prior(N_STAGES - 2);
                __syncthreads();
            }
            fetch(ahead, step);
            if (!is_full) continue;
            if (walk.segment == 0) sums.zero();
            const unsigned char* stage = stages + (step + 1) % N_STAGES * STAGE_BYTES;
            sums.segment(stage, stage + ROW_BYTES);
            if ((walk.segment + 1) * SEGMENT == args.stride) take_tile(sums, walk);
            walk.advance(args);
        }
        __pipeline_wait_prior(0);
        __syncthreads();
    }

    __device__ void write_partial() const {
#pragma unroll 1
        for (uint32_t q = 0; q < n; ++q) {
            ring(q).template compact<THREADS>(args.k);
            const size_t at = size_t(first + q) * gridDim.y + blockIdx.y;
#pragma unroll 1
            for (uint32_t i = threadIdx.x; i < counts[q]; i += THREADS) args.partial[at * args.k + i] = ring(q).keys[i];
            if (threadIdx.x == 0) args.partial_counts[at] = counts[q];
        }
    }

    // Takes all partial lists of query q into its ring; one turn more than there are keys sorts it.
    __device__ void merge(uint32_t q) const {
        const size_t lists = size_t(first + q) * gridDim.y, total = size_t(gridDim.y) * args.k;
#pragma unroll 1
        for (size_t from = 0; from < total + THREADS; from += THREADS) {
            const size_t i = from + threadIdx.x;
            Key key = NO_KEY;
            if (i < total && i % args.k < __ldcg(args.partial_counts + lists + i / args.k))
                key = __ldcg(args.partial + lists * args.k + i);
            ring(q).append(key, key != NO_KEY && key <= bounds[q]);
            __syncthreads();
            const bool is_last = from >= total;
            if (is_last || counts[q] + TILE > args.capacity) ring(q).template compact<THREADS>(args.k);
            __syncthreads();
        }
    }

    __device__ void write_out() const {
#pragma unroll 1
        for (uint32_t q = 0; q < n; ++q) {
            if (threadIdx.x == 0) counts[q] = 0;
            __syncthreads();
            merge(q);
            const size_t at = size_t(first + q) * args.k;
#pragma unroll 1
            for (uint32_t i = threadIdx.x; i < counts[q]; i += THREADS) args.out[at + i] = ring(q).keys[i];
            if (threadIdx.x == 0) args.out_counts[first + q] = counts[q];
        }
    }
};

template <class Sums> __device__ __forceinline__ void flat_scan(const FlatScanArgs& args) {
    DYNAMIC_SHARED(stages);
    __shared__ uint32_t counts[Sums::QUERIES], factors[Sums::QUERIES], is_last;
    __shared__ Key bounds[Sums::QUERIES];
    const uint32_t first = blockIdx.x * args.group, n_queries = *args.n_queries;
    if (first >= n_queries) return;
    const uint32_t n = least(args.group, n_queries - first), q = threadIdx.x;
    if (q < n) {
        counts[q] = 0;
        bounds[q] = __ldcg(args.bounds + first + q);
        factors[q] = factor<Sums::METRIC, typename Sums::Element>(args.query_factors, first + q);
    }
    __syncthreads();
    const Scan<Sums> scan{args, stages, counts, bounds, factors, first, n};
    scan.scan();
    scan.write_partial();
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) is_last = atomicAdd(args.done + blockIdx.x, 1u) == gridDim.y - 1;
    __syncthreads();
    if (!is_last) return;
    __threadfence();
    scan.write_out();
    if (threadIdx.x == 0) args.done[blockIdx.x] = 0;
}

}  // namespace

#define MAKE(M, metric, T, dtype)                                                                         \
    KERNEL(flat_scan_##metric##_##dtype##_q1, THREADS, FlatScanArgs, (flat_scan<Rows<M, T, 1>>))          \
    KERNEL(flat_scan_##metric##_##dtype##_q8, THREADS, FlatScanArgs, (flat_scan<Rows<M, T, 8>>))
FOR_KINDS(MAKE)
#define MAKE_TENSOR(M, metric, T, dtype) \
    KERNEL(flat_scan_##metric##_##dtype##_mma, THREADS, FlatScanArgs, (flat_scan<Tensor<M, T>>))
FOR_PRODUCTS(MAKE_TENSOR)
