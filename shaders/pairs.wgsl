// Pairs of rows within a distance. Rows of the second side stand in the place of queries, but lie in blocks as rows do.
struct Params {
    first_a: u32,
    end_a: u32,
    first_b: u32,
    end_b: u32,
    chunks: u32,
    within: u32,
    capacity: u32,
    // What is added to a row of this shard to make a slot.
    slot_a: u32,
    slot_b: u32,
    is_one_side: u32,
    // With one side: (i, j) with i > j is left out if (j, i) lies in these ranges of slots too.
    tile_a: u32,
    tile_a_end: u32,
    tile_b: u32,
    tile_b_end: u32,
}
struct Pairs {
    n: atomic<u32>,
    // [capacity] of (slot, slot, bits of the distance)
    found: array<u32>,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(5) var<storage, read_write> out: Pairs;

var<workgroup> base: u32;

fn is_wanted(i: u32, j: u32) -> bool {
    if params.is_one_side == 0u {
        return true;
    }
    let mirrored = j >= params.tile_a && j < params.tile_a_end && i >= params.tile_b && i < params.tile_b_end;
    return i != j && !(i > j && mirrored);
}

fn four_pairs(row: u32, other: u32, chunks: u32) -> vec4<f32> {
    let start = row_start(row, chunks);
    // Rows past the end repeat the last one; they are not counted.
    let last = params.end_b - 1u;
    let others = min(vec4<u32>(other, other + 1u, other + 2u, other + 3u), vec4<u32>(last));
    let at = vec4<u32>(
        row_start(others.x, chunks), row_start(others.y, chunks),
        row_start(others.z, chunks), row_start(others.w, chunks),
    );
    var a = Sum();
    var b = Sum();
    var c = Sum();
    var d = Sum();
    for (var i = 0u; i < chunks; i++) {
        let x = widen(rows[start + i * BLOCK]);
        a = add(a, x, widen(queries[at.x + i * BLOCK]));
        b = add(b, x, widen(queries[at.y + i * BLOCK]));
        c = add(c, x, widen(queries[at.z + i * BLOCK]));
        d = add(d, x, widen(queries[at.w + i * BLOCK]));
    }
    let extra = row_extra[row];
    return vec4<f32>(
        finish(a, extra, query_extra[others.x]),
        finish(b, extra, query_extra[others.y]),
        finish(c, extra, query_extra[others.z]),
        finish(d, extra, query_extra[others.w]),
    );
}

// Invocation: one row of the first side (x) with STRIPE rows of the second (y).
@compute @workgroup_size(GROUP)
fn pairs(
    @builtin(local_invocation_index) lane: u32,
    @builtin(workgroup_id) group: vec3<u32>,
) {
    let row = params.first_a + group.x * GROUP + lane;
    let first = params.first_b + group.y * STRIPE;
    let end = min(first + STRIPE, params.end_b);
    for (var other = first; other < end; other += 4u) {
        var found = vec4<f32>();
        var near = vec4<u32>();
        if row < params.end_a {
            found = four_pairs(row, other, params.chunks);
            for (var i = 0u; i < 4u; i++) {
                let is_near = other + i < end
                    && key_of(found[i]) <= params.within
                    && is_wanted(row + params.slot_a, other + i + params.slot_b);
                near[i] = select(0u, 1u, is_near);
            }
        }
        var place = take_places(HELD, near.x + near.y + near.z + near.w, lane);
        workgroupBarrier();
        if lane == 0u {
            base = atomicAdd(&out.n, atomicLoad(&tally[HELD]));
            atomicStore(&tally[HELD], 0u);
        }
        place += workgroupUniformLoad(&base);
        for (var i = 0u; i < 4u; i++) {
            // What does not fit is counted and not written: the host sees it and takes smaller tiles.
            if near[i] == 1u && place < params.capacity {
                out.found[3u * place] = row + params.slot_a;
                out.found[3u * place + 1u] = other + i + params.slot_b;
                out.found[3u * place + 2u] = bitcast<u32>(found[i]);
            }
            place += near[i];
        }
    }
}
