// The nearest centroid of every row. Centroids stand in the place of queries; a launch sees some of them and goes on
// from what earlier launches found.
struct Params {
    first_row: u32,
    end_row: u32,
    // Centroids of this launch, in the buffer that is bound.
    first: u32,
    end: u32,
    // Number of the first centroid of that buffer.
    offset: u32,
    chunks: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
// [end_row - first_row] of (key of the distance, centroid); (MOST, MOST) before the first launch.
@group(0) @binding(5) var<storage, read_write> best: array<vec2<u32>>;

// Invocation: one row.
@compute @workgroup_size(GROUP)
fn assign(@builtin(global_invocation_id) id: vec3<u32>) {
    let row = params.first_row + id.x;
    if row >= params.end_row {
        return;
    }
    var least = best[id.x];
    for (var centroid = params.first; centroid < params.end; centroid += 4u) {
        let found = four_distances(row, centroid, params.chunks);
        for (var i = 0u; i < 4u; i++) {
            let key = key_of(found[i]);
            // Ascending and strictly less: ties go to the lesser centroid.
            if centroid + i < params.end && key < least.x {
                least = vec2<u32>(key, params.offset + centroid + i);
            }
        }
    }
    best[id.x] = least;
}
