// Operation `gather`: the distance of each listed (query, slot): out [n].
//
// Launch: 128 threads; a warp takes one pair after another, each lane 16 bytes of the row at a time. Bound by random access.
#include "common.cuh"

using namespace nearkin;

struct GatherArgs {
    const unsigned char* rows;
    const uint32_t* row_factors;
    const unsigned char* queries;
    const uint32_t* query_factors;
    const uint32_t* slots;
    const uint32_t* query_of;
    float* out;
    uint32_t n, stride, query_stride, unused;
};

template <Metric M, class T> __device__ __forceinline__ void gather(const GatherArgs& args) {
    typedef typename QueryOf<T>::Type Query;
    const uint32_t piece_bytes = Facing<T, Query>::BYTES / 4, n_pieces = args.stride / 16;
    const uint32_t warps = gridDim.x * (blockDim.x / 32);
    for (uint32_t i = (blockIdx.x * blockDim.x + threadIdx.x) / 32; i < args.n; i += warps) {
        const uint32_t slot = args.slots[i], q = args.query_of[i];
        const unsigned char* row = args.rows + size_t(slot) * args.stride;
        const unsigned char* query = args.queries + size_t(q) * args.query_stride;
        typename Sum<T>::Type sum = 0;
        for (uint32_t p = lane_id(); p < n_pieces; p += 32)
            sum = Add<M, T>::piece(sum, Load<T, T>::from(row + p * 16), Load<T, Query>::from(query + p * piece_bytes));
        for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(ALL_LANES, sum, step);
        const uint32_t own = factor<M, T>(args.row_factors, slot), other = factor<M, T>(args.query_factors, q);
        if (lane_id() == 0) args.out[i] = distance<M>(sum, own, other);
    }
}

#define MAKE(M, metric, T, dtype) KERNEL(gather_##metric##_##dtype, 128, GatherArgs, (gather<M, T>))
FOR_KINDS(MAKE)
