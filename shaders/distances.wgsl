// Distances of all queries to the rows of a range.
struct Params { first_row: u32, end_row: u32, first_query: u32, end_query: u32, chunks: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(5) var<storage, read_write> out: array<f32>;

// Invocation: one row (x) and four queries (y). Writes [end_query - first_query, end_row - first_row].
@compute @workgroup_size(GROUP)
fn distances(@builtin(global_invocation_id) id: vec3<u32>) {
    let row = params.first_row + id.x;
    if row >= params.end_row {
        return;
    }
    let query = params.first_query + id.y * 4u;
    let found = four_distances(row, query, params.chunks);
    let n_rows = params.end_row - params.first_row;
    for (var i = 0u; i < 4u; i++) {
        if query + i < params.end_query {
            out[(id.y * 4u + i) * n_rows + id.x] = found[i];
        }
    }
}
