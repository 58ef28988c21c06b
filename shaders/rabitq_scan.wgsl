// Rows of lists whose lower bound does not exceed the k-th least upper bound. Two entry points: `bound` finds the k least
// upper bounds, `survivors` writes the rows that lie below the k-th. Both look at the extra planes only of rows whose
// one-bit lower bound does not exceed what is known by then: a row's upper bound is never below its lower one.
//
// Planes lie in blocks of rows as rows do: a chunk is 128 elements of one plane. `planes` is their number in one plane.
struct Params {
    planes: u32,
    k: u32,
    is_masked: u32,
    capacity: u32,
}
struct Item {
    scan: u32,
    query: u32,
    first: u32,
    end: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> signs: array<vec4<u32>>;
// Per row: add, rescale, err of one bit; add, rescale, err of four.
@group(0) @binding(2) var<storage, read> factors: array<f32>;
// Per query: 4 planes, 8 planes, then (lo, step, sum, add), (lo, step, sum, err), (err of four bits).
@group(0) @binding(3) var<storage, read> queries: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read> items: array<Item>;
@group(0) @binding(5) var<storage, read> mask: array<u32>;
// [n_scans] keys: at least k rows lie within, as far as is known.
@group(0) @binding(6) var<storage, read_write> bounds: array<atomic<u32>>;

// Three planes, weights 1, 2 and 4.
@group(0) @binding(8) var<storage, read> extra: array<vec4<u32>>;

struct Bounds { estimate: f32, lower: f32, upper: f32 }

fn is_allowed(row: u32) -> bool {
    return params.is_masked == 0u || ((mask[row / 32u] >> (row % 32u)) & 1u) == 1u;
}

fn ones(chunk: vec4<u32>) -> u32 {
    let bits = countOneBits(chunk);
    return bits.x + bits.y + bits.z + bits.w;
}

// The order of operations is that of `codes::estimate`.
fn bounds_of(row: u32, at: u32, constants: vec4<f32>, add: f32, err: f32, dot: u32, n: u32, centre: f32) -> Bounds {
    let factor = row * 6u + at;
    let product = constants.x * exact_f32(n) + constants.y * exact_f32(dot);
    let estimate = factors[factor] + add + factors[factor + 1u] * (product + centre * constants.z);
    let by = factors[factor + 2u] * err;
    return Bounds(estimate, estimate - by, estimate + by);
}

fn query_start(query: u32) -> u32 {
    return query * (12u * params.planes + 3u);
}

fn coarse(row: u32, query: u32) -> Bounds {
    let start = row_start(row, params.planes);
    let q = query_start(query);
    var dot = 0u;
    var n = 0u;
    for (var i = 0u; i < params.planes; i++) {
        let chunk = signs[start + i * BLOCK];
        n += ones(chunk);
        for (var weight = 0u; weight < 4u; weight++) {
            dot += ones(chunk & queries[q + weight * params.planes + i]) << weight;
        }
    }
    let constants = bitcast<vec4<f32>>(queries[q + 12u * params.planes]);
    let err = bitcast<f32>(queries[q + 12u * params.planes + 1u].w);
    return bounds_of(row, 0u, constants, constants.w, err, dot, n, -0.5);
}

fn fine(row: u32, query: u32) -> Bounds {
    let start = row_start(row, params.planes);
    let extra_start = row_start(row, 3u * params.planes);
    let q = query_start(query) + 4u * params.planes;
    var dot = 0u;
    var n = 0u;
    for (var plane = 0u; plane < 4u; plane++) {
        for (var i = 0u; i < params.planes; i++) {
            var chunk: vec4<u32>;
            if plane == 3u {
                chunk = signs[start + i * BLOCK];
            } else {
                chunk = extra[extra_start + (plane * params.planes + i) * BLOCK];
            }
            n += ones(chunk) << plane;
            for (var weight = 0u; weight < 8u; weight++) {
                dot += ones(chunk & queries[q + weight * params.planes + i]) << (plane + weight);
            }
        }
    }
    let at = query_start(query) + 12u * params.planes;
    let add = bitcast<f32>(queries[at].w);
    let err = bitcast<f32>(queries[at + 2u].x);
    return bounds_of(row, 3u, bitcast<vec4<f32>>(queries[at + 1u]), add, err, dot, n, -7.5);
}

// Both codes together; where their intervals miss one another, the upper bound is the lower one.
fn both(first: Bounds, row: u32, query: u32) -> Bounds {
    let second = fine(row, query);
    let lower = max(first.lower, second.lower);
    return Bounds(second.estimate, lower, max(min(first.upper, second.upper), lower));
}

//#if bound
// [items] of (count, k keys)
@group(0) @binding(7) var<storage, read_write> out: array<u32>;

// Workgroup: one item.
@compute @workgroup_size(GROUP)
fn bound(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let item = items[group.x];
    // Trip counts come from a uniform, for the barriers within; rows past the end are not seen.
    for (var step = 0u; step < ROWS_PER_ITEM; step += GROUP) {
        let row = item.first + step + lane;
        var is_near = row < item.end && is_allowed(row);
        var key = MOST;
        if is_near {
            let limit = atomicLoad(&bounds[item.scan]);
            let first = coarse(row, item.query);
            is_near = key_of(first.lower) <= limit;
            if is_near {
                key = key_of(both(first, row, item.query).upper);
                is_near = key <= limit;
            }
        }
        propose(0u, is_near, key, row, lane);
        if is_crowded(params.k, lane) {
            let top = keep_least(0u, params.k, lane);
            if lane == 0u {
                atomicMin(&bounds[item.scan], top);
            }
        }
    }
    let top = keep_least(0u, params.k, lane);
    if lane == 0u {
        atomicMin(&bounds[item.scan], top);
    }
    let cell = group.x * (1u + params.k);
    let n = atomicLoad(&tally[HELD]);
    if lane == 0u {
        out[cell] = n;
    }
    for (var i = lane; i < n; i += GROUP) {
        out[cell + 1u + i] = pool_keys[i];
    }
}
//#end

//#if survivors
struct Survivors {
    n: atomic<u32>,
    // [capacity] of (item, row, bits of estimate, lower, upper)
    found: array<u32>,
}
@group(0) @binding(7) var<storage, read_write> out: Survivors;

var<workgroup> base: u32;

// Workgroup: one item.
@compute @workgroup_size(GROUP)
fn survivors(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let index = group.x;
    let item = items[index];
    let limit = atomicLoad(&bounds[item.scan]);
    for (var step = 0u; step < ROWS_PER_ITEM; step += GROUP) {
        let row = item.first + step + lane;
        var is_kept = row < item.end && is_allowed(row);
        var kept = Bounds();
        if is_kept {
            let first = coarse(row, item.query);
            is_kept = key_of(first.lower) <= limit;
            if is_kept {
                kept = both(first, row, item.query);
                is_kept = key_of(kept.lower) <= limit;
            }
        }
        var place = take_places(HELD, select(0u, 1u, is_kept), lane);
        workgroupBarrier();
        if lane == 0u {
            base = atomicAdd(&out.n, atomicLoad(&tally[HELD]));
            atomicStore(&tally[HELD], 0u);
        }
        place += workgroupUniformLoad(&base);
        if is_kept && place < params.capacity {
            out.found[5u * place] = index;
            out.found[5u * place + 1u] = row;
            out.found[5u * place + 2u] = bitcast<u32>(kept.estimate);
            out.found[5u * place + 3u] = bitcast<u32>(kept.lower);
            out.found[5u * place + 4u] = bitcast<u32>(kept.upper);
        }
    }
}
//#end
