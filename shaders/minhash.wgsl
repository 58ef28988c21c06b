// Least permuted shingle of every record and slot of its signature.
struct Params { n_perm: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> shingles: array<u32>;
// (record, first shingle, end): a long record is several segments.
@group(0) @binding(2) var<storage, read> segments: array<vec4<u32>>;
// [n_perm] of (multiplier, mask)
@group(0) @binding(3) var<storage, read> constants: array<vec2<u32>>;
// [n_records, n_perm], MOST at first.
@group(0) @binding(4) var<storage, read_write> out: array<atomic<u32>>;

fn permute(x: u32, constant: vec2<u32>) -> u32 {
    var t = (x ^ constant.y) * constant.x;
    t ^= t >> 15u;
    t *= 0x846ca68bu;
    return t ^ (t >> 13u);
}

// Workgroup: one segment (x) and GROUP slots (y).
@compute @workgroup_size(GROUP)
fn minhash(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let slot = group.y * GROUP + lane;
    if slot >= params.n_perm {
        return;
    }
    let segment = segments[group.x];
    let constant = constants[slot];
    var least = MOST;
    for (var i = segment.y; i < segment.z; i++) {
        least = min(least, permute(shingles[i], constant));
    }
    atomicMin(&out[segment.x * params.n_perm + slot], least);
}
