// Operation `minhash`: signatures [n_records, n_perm] of records whose shingle hashes stand one after another.
//
// Launch: 128 threads, one slot each; block i works on record i / blocks_per_record. Shingles go through shared memory, 512
// at a time. Integers only: the bits are those of every other backend. Bound by arithmetic: 8 operations per shingle and slot.
#include "common.cuh"

using namespace nearkin;

struct MinhashArgs {
    const uint32_t* shingles;
    const uint32_t* ends;
    const uint32_t* multipliers;
    const uint32_t* masks;
    uint32_t* out;
    uint32_t n_perm, blocks_per_record;
};

__device__ __forceinline__ void minhash(const MinhashArgs& args) {
    const uint32_t batch = 512;
    __shared__ uint32_t staged[batch];
    const uint32_t record = blockIdx.x / args.blocks_per_record;
    const uint32_t slot = blockIdx.x % args.blocks_per_record * blockDim.x + threadIdx.x;
    const bool is_slot = slot < args.n_perm;
    const uint32_t multiplier = is_slot ? args.multipliers[slot] : 1, mask = is_slot ? args.masks[slot] : 0;
    const uint32_t begin = record ? args.ends[record - 1] : 0, end = args.ends[record];
    uint32_t smallest = 0xffffffffu;
    for (uint32_t from = begin; from < end; from += least(batch, end - from)) {
        const uint32_t n = least(batch, end - from);
        for (uint32_t i = threadIdx.x; i < n; i += blockDim.x) staged[i] = args.shingles[from + i];
        __syncthreads();
        for (uint32_t i = 0; i < n; ++i) {
            uint32_t t = (staged[i] ^ mask) * multiplier;
            t ^= t >> 15;
            t *= 0x846ca68bu;
            smallest = least(smallest, t ^ t >> 13);
        }
        __syncthreads();
    }
    if (is_slot) args.out[size_t(record) * args.n_perm + slot] = smallest;
}

KERNEL(minhash_u32, 128, MinhashArgs, (minhash))
