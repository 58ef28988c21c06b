// Kernels with one fault each, and their sound twins: the emulator must tell them apart.
#include "mma.cuh"

using namespace nearkin;

struct FaultArgs {
    const uint32_t* in;
    uint32_t* out;
    uint32_t is_sound, n;
};

// Reverses the values of a block through shared memory; unsound, nobody waits for the other warps.
__device__ __forceinline__ void reverse(const FaultArgs& args) {
    __shared__ uint32_t staged[128];
    staged[threadIdx.x] = args.in[blockIdx.x * 128 + threadIdx.x];
    if (args.is_sound) __syncthreads();
    args.out[blockIdx.x * 128 + threadIdx.x] = staged[127 - threadIdx.x];
    __syncthreads();
}
KERNEL(fault_barrier, 128, FaultArgs, (reverse))

// Copies values through shared memory; unsound, nobody waits for the copy.
__device__ __forceinline__ void copied(const FaultArgs& args) {
    __shared__ __align__(16) uint32_t staged[128 * 4];
    const size_t at = (size_t(blockIdx.x) * 128 + threadIdx.x) * 4;
    copy16(reinterpret_cast<unsigned char*>(staged + threadIdx.x * 4),
           reinterpret_cast<const unsigned char*>(args.in + at));
    __pipeline_commit();
    if (args.is_sound) __pipeline_wait_prior(0);
    __syncthreads();
    for (int i = 0; i < 4; ++i) args.out[at + i] = staged[(127 - threadIdx.x) * 4 + i];
    __syncthreads();
}
KERNEL(fault_copy, 128, FaultArgs, (copied))

// Unsound, half of the threads end and the others wait for them.
__device__ __forceinline__ void divergent(const FaultArgs& args) {
    if (!args.is_sound && threadIdx.x >= 64) return;
    __syncthreads();
    args.out[blockIdx.x * 128 + threadIdx.x] = 1;
}
KERNEL(fault_divergent, 128, FaultArgs, (divergent))

// Writes one element past the end of `out` [n] when unsound.
__device__ __forceinline__ void past_end(const FaultArgs& args) {
    const uint32_t i = blockIdx.x * 128 + threadIdx.x;
    if (i < args.n + (args.is_sound ? 0 : 1)) args.out[i] = i;
}
KERNEL(fault_past_end, 128, FaultArgs, (past_end))

// Reads one element before `in` when unsound.
__device__ __forceinline__ void before_start(const FaultArgs& args) {
    const uint32_t i = blockIdx.x * 128 + threadIdx.x;
    args.out[i] = args.in[int64_t(i) - (i > 0 || !args.is_sound)];
}
KERNEL(fault_before_start, 128, FaultArgs, (before_start))

// Reads one element past the end of static shared memory when unsound; in a template, as most of the kernels' is.
template <int N> __device__ __forceinline__ void past_shared(const FaultArgs& args) {
    __shared__ uint32_t staged[N];
    staged[threadIdx.x] = args.in[threadIdx.x];
    __syncthreads();
    args.out[blockIdx.x * N + threadIdx.x] = staged[threadIdx.x + (args.is_sound ? 0 : 1)];
}
KERNEL(fault_past_shared, 128, FaultArgs, (past_shared<128>))

// Writes one element past the end of dynamic shared memory of 128 elements when unsound.
__device__ __forceinline__ void past_dynamic(const FaultArgs& args) {
    DYNAMIC_SHARED(bytes);
    uint32_t* staged = reinterpret_cast<uint32_t*>(bytes);
    staged[threadIdx.x + (args.is_sound ? 0 : 1)] = 1;
    args.out[blockIdx.x * 128 + threadIdx.x] = 1;
}
KERNEL(fault_past_dynamic, 128, FaultArgs, (past_dynamic))

// Writes one element past what a call was lent of a larger piece when unsound.
__device__ __forceinline__ void past_lent(const FaultArgs& args) { past_end(args); }
KERNEL(fault_past_lent, 128, FaultArgs, (past_lent))

struct InstructionArgs {
    const uint32_t* in;  // [32, 8]
    uint32_t* out;       // [32, 16]
};

// Every instruction of the shim that the kernels use but lightly, on one warp.
__device__ __forceinline__ void instructions(const InstructionArgs& args) {
    const uint32_t lane = threadIdx.x, x = args.in[lane * 8], y = args.in[lane * 8 + 1];
    uint32_t* out = args.out + lane * 16;
    out[0] = __shfl_up_sync(ALL_LANES, x, 3);
    out[1] = __shfl_down_sync(ALL_LANES, x, 5);
    out[2] = __shfl_sync(ALL_LANES, x, int(y % 32));
    out[3] = __shfl_xor_sync(ALL_LANES, x, 9);
    out[4] = __ballot_sync(ALL_LANES, x & 1);
    out[5] = uint32_t(__any_sync(ALL_LANES, x == args.in[0])) | uint32_t(__all_sync(ALL_LANES, x == args.in[0])) << 1;
    out[6] = uint32_t(__syncthreads_count(x & 1));
    out[7] = uint32_t(__syncthreads_or(lane == 7)) | uint32_t(__syncthreads_and(lane == 7)) << 1;
    out[8] = uint32_t(__dp4a(int(x), int(y), -5));
    out[9] = __dp4a(x, y, 5u);
    out[10] = __vsadu4(x, y);
    out[11] = __vsads4(x, y);
    int32_t d[4] = {1, 2, 3, 4};
    const uint32_t a[4] = {args.in[lane * 8 + 2], args.in[lane * 8 + 3], args.in[lane * 8 + 4], args.in[lane * 8 + 5]};
    const uint32_t b[2] = {args.in[lane * 8 + 6], args.in[lane * 8 + 7]};
    mma_m16n8k32(d, a, b, int8_t());
    for (int i = 0; i < 4; ++i) out[12 + i] = uint32_t(d[i]);
}
KERNEL(instructions_s8, 32, InstructionArgs, (instructions))
