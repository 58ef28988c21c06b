// Distances of listed pairs of a query and a row.
struct Params { n_items: u32, chunks: u32 }
@group(0) @binding(0) var<uniform> params: Params;
// (query, row)
@group(0) @binding(5) var<storage, read> items: array<vec2<u32>>;
@group(0) @binding(6) var<storage, read_write> out: array<f32>;

// Invocation: one item. Writes [n_items].
@compute @workgroup_size(GROUP)
fn gather(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x < params.n_items {
        let item = items[id.x];
        out[id.x] = one_distance(item.y, item.x, params.chunks);
    }
}
