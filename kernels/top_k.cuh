// The k least keys of a stream: a bound that only falls, a ring in shared memory for what is under it, a sort when full.
//
// Expected appends per stream of n keys are about k ln(n / k); with a warm bound fewer. Keys that are equal never meet:
// a slot is seen once. A key at the bound is kept, since it may be the one that made the bound.
// Paper: threshold and compaction as in cuVS IVF-RaBitQ, 2026 (arXiv 2602.23999), section 5.
#pragma once

#include "common.cuh"

namespace nearkin {

// Sorts `n` keys of shared memory, n a power of two, with all threads of the block. Ends with a barrier.
template <int THREADS> __device__ void bitonic_sort(Key* keys, uint32_t n) {
#pragma unroll 1
    for (uint32_t size = 2; size <= n; size *= 2)
#pragma unroll 1
        for (uint32_t step = size / 2; step > 0; step /= 2) {
#pragma unroll 1
            for (uint32_t i = threadIdx.x; i < n / 2; i += THREADS) {
                const uint32_t low = 2 * i - (i & (step - 1));
                const Key a = keys[low], b = keys[low + step];
                if ((a > b) == ((low & size) == 0)) {
                    keys[low] = b;
                    keys[low + step] = a;
                }
            }
            __syncthreads();
        }
}

// One query's ring. `count` and `bound` lie in shared memory, `shared_bound` in global memory, seen by all blocks.
struct Ring {
    Key* keys;
    uint32_t* count;
    Key* bound;
    Key* shared_bound;

    // Takes the keys of all lanes whose `keep` is set. All lanes of the warp call. The caller leaves room.
    __device__ __forceinline__ void append(Key key, bool keep) const {
        const uint32_t set = __ballot_sync(ALL_LANES, keep), lane = lane_id();
        if (!set) return;
        const uint32_t leader = __ffs(set) - 1;
        uint32_t base = 0;
        if (lane == leader) base = atomicAdd(count, uint32_t(__popc(set)));
        base = __shfl_sync(ALL_LANES, base, leader);
        if (keep) keys[base + __popc(set & ((1u << lane) - 1))] = key;
    }

    // Sorts, keeps k, lowers the bounds. All threads of the block call, after a barrier. Ends with a barrier.
    template <int THREADS> __device__ void compact(uint32_t k) const {
        const uint32_t n = *count, size = n < 2 ? 2 : 1u << (32 - __clz(n - 1));
#pragma unroll 1
        for (uint32_t i = n + threadIdx.x; i < size; i += THREADS) keys[i] = NO_KEY;
        __syncthreads();
        bitonic_sort<THREADS>(keys, size);
        if (threadIdx.x == 0) {
            *count = least(n, k);
            if (n >= k) {
                const Key old = atomicMin(shared_bound, keys[k - 1]);
                *bound = old < keys[k - 1] ? old : keys[k - 1];
            }
        }
        __syncthreads();
    }

    // What other blocks found meanwhile. One thread calls.
    __device__ __forceinline__ void refresh() const {
        const Key other = *const_cast<volatile Key*>(shared_bound);
        if (other < *bound) *bound = other;
    }
};

}  // namespace nearkin
