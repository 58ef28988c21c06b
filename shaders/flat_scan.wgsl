// The k nearest allowed rows of every query. A workgroup sees one group of rows for QUERIES queries, keeps the nearest
// in its pools and writes at most k of each; distances are never written. What cannot be among the k nearest of a query
// is left out by a bound that all workgroups share and lower.
struct Params {
    n_rows: u32,
    rows_per_group: u32,
    first_group: u32,
    first_query: u32,
    n_queries: u32,
    chunks: u32,
    k: u32,
    is_masked: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
// One bit per row of this shard, the least in the lowest bit.
@group(0) @binding(5) var<storage, read> mask: array<u32>;
// [n_queries] keys: at least k rows lie within.
@group(0) @binding(6) var<storage, read_write> bounds: array<atomic<u32>>;
// [query groups, row groups, QUERIES] of (count, k keys, k rows).
@group(0) @binding(7) var<storage, read_write> out: array<u32>;

fn is_allowed(row: u32) -> bool {
    return params.is_masked == 0u || ((mask[row / 32u] >> (row % 32u)) & 1u) == 1u;
}

fn lower_bound(query: u32, q: u32, lane: u32) {
    let top = keep_least(q, params.k, lane);
    if lane == 0u && query + q < params.n_queries {
        atomicMin(&bounds[query + q], top);
    }
}

@compute @workgroup_size(GROUP)
fn flat_scan(
    @builtin(local_invocation_index) lane: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) n_groups: vec3<u32>,
) {
    let query = params.first_query + group.y * QUERIES;
    let start = (params.first_group + group.x) * params.rows_per_group;
    let end = min(start + params.rows_per_group, params.n_rows);
    for (var first = start; first < end; first += GROUP) {
        let row = first + lane;
        let is_seen = row < end && is_allowed(row);
//#if four
        var found = vec4<f32>();
        if is_seen {
            found = four_distances(row, query, params.chunks);
        }
//#else
        var found = array<f32, 1>();
        if is_seen {
            found[0] = one_distance(row, query, params.chunks);
        }
//#end
        for (var q = 0u; q < QUERIES; q++) {
            let key = key_of(found[q]);
            var is_near = is_seen && query + q < params.n_queries;
            if is_near {
                is_near = key <= atomicLoad(&bounds[query + q]);
            }
            propose(q, is_near, key, row, lane);
        }
        if is_crowded(params.k, lane) {
            for (var q = 0u; q < QUERIES; q++) {
                lower_bound(query, q, lane);
            }
        }
    }
    for (var q = 0u; q < QUERIES; q++) {
        lower_bound(query, q, lane);
        let cell = ((group.y * n_groups.x + group.x) * QUERIES + q) * (1u + 2u * params.k);
        let n = atomicLoad(&tally[HELD + q]);
        if lane == 0u {
            out[cell] = n;
        }
        for (var i = lane; i < n; i += GROUP) {
            out[cell + 1u + i] = pool_keys[q * POOL + i];
            out[cell + 1u + params.k + i] = pool_slots[q * POOL + i];
        }
    }
}
