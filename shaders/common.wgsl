// Shared by all operations: how rows lie in memory, sums of one chunk, distances, sort keys, places in lists and
// the selection of the k least. The host puts the constants GROUP, BLOCK, QUERIES, POOL and PER_LANE before this text
// and keeps the blocks between `//#if NAME` and `//#end` whose name is set.
//
// A chunk is 16 bytes of one row: 4 f32, 8 f16 or 16 bytes. Rows lie in blocks of BLOCK rows, chunk by chunk, so that
// neighbouring invocations read neighbouring chunks. Queries lie one after another; queries of float rows are f32.

const MOST: u32 = 0xffffffffu;

// The nearest 32-bit float, ties to even: what the conversion of the language leaves to the device.
fn exact_f32(x: u32) -> f32 {
    if x < 0x1000000u {
        return f32(x);
    }
    let shift = 8u - countLeadingZeros(x);
    let rounded = x + (1u << (shift - 1u)) - 1u + ((x >> shift) & 1u);
    return f32((rounded >> shift) << shift);
}

fn exact_signed(x: i32) -> f32 {
    let size = exact_f32(u32(abs(x)));
    return select(size, -size, x < 0);
}

// Unsigned numbers in the order of the distances; both zeros are one. Not-a-number comes last or first: the host refuses it.
fn key_of(distance: f32) -> u32 {
    let bits = bitcast<u32>(distance);
    let one_zero = select(bits, 0u, bits == 0x80000000u);
    return one_zero ^ select(0x80000000u, MOST, (one_zero >> 31u) == 1u);
}

fn row_start(row: u32, chunks: u32) -> u32 {
    return (row / BLOCK) * chunks * BLOCK + row % BLOCK;
}

//#if rows
@group(0) @binding(1) var<storage, read> rows: array<vec4<u32>>;
// One number per row: the bits of the inverse norm (cosine), the squared norm (l2 of integers), or zero.
@group(0) @binding(2) var<storage, read> row_extra: array<u32>;
@group(0) @binding(3) var<storage, read> queries: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read> query_extra: array<u32>;

//#if f32
alias Wide = vec4<f32>;
alias Sum = vec4<f32>;
fn widen(chunk: vec4<u32>) -> Wide {
    return bitcast<vec4<f32>>(chunk);
}
fn query_chunk(i: u32) -> Wide {
    return bitcast<vec4<f32>>(queries[i]);
}
//#end
//#if f16
struct Wide { low: vec4<f32>, high: vec4<f32> }
alias Sum = vec4<f32>;
// A device may flush halves below the least normal one; they are a mantissa times 2^-24.
fn two_halves(word: u32) -> vec2<f32> {
    let bits = vec2<u32>(word & 0xffffu, word >> 16u);
    let size = vec2<f32>(bits & vec2<u32>(0x7fffu)) * 5.9604644775390625e-8;
    let small = select(size, -size, (bits & vec2<u32>(0x8000u)) != vec2<u32>(0u));
    return select(unpack2x16float(word), small, (bits & vec2<u32>(0x7c00u)) == vec2<u32>(0u));
}
fn widen(chunk: vec4<u32>) -> Wide {
    return Wide(
        vec4<f32>(two_halves(chunk.x), two_halves(chunk.y)),
        vec4<f32>(two_halves(chunk.z), two_halves(chunk.w)),
    );
}
fn query_chunk(i: u32) -> Wide {
    return Wide(bitcast<vec4<f32>>(queries[2u * i]), bitcast<vec4<f32>>(queries[2u * i + 1u]));
}
//#end
//#if integer
alias Wide = vec4<u32>;
fn widen(chunk: vec4<u32>) -> Wide {
    return chunk;
}
fn query_chunk(i: u32) -> Wide {
    return queries[i];
}
//#end
//#if u8
alias Sum = u32;
//#end
//#if i8
alias Sum = i32;
//#end

//#if float
fn part(sum: Sum, a: vec4<f32>, b: vec4<f32>) -> Sum {
//#if product
    return sum + a * b;
//#end
//#if l2
    let apart = a - b;
    return sum + apart * apart;
//#end
//#if l1
    return sum + abs(a - b);
//#end
}
//#end
//#if f32
fn add(sum: Sum, a: Wide, b: Wide) -> Sum {
    return part(sum, a, b);
}
//#end
//#if f16
fn add(sum: Sum, a: Wide, b: Wide) -> Sum {
    return part(part(sum, a.low, b.low), a.high, b.high);
}
//#end
//#if integer
//#if l1
//#if u8
fn apart(a: u32, b: u32) -> Sum {
    let by = abs(vec4<i32>(unpack4xU8(a)) - vec4<i32>(unpack4xU8(b)));
    return u32(by.x + by.y + by.z + by.w);
}
//#end
//#if i8
fn apart(a: u32, b: u32) -> Sum {
    let by = abs(unpack4xI8(a) - unpack4xI8(b));
    return by.x + by.y + by.z + by.w;
}
//#end
//#end
fn word(a: u32, b: u32) -> Sum {
//#if l1
    return apart(a, b);
//#else
//#if u8
    return dot4U8Packed(a, b);
//#end
//#if i8
    return dot4I8Packed(a, b);
//#end
//#end
}
fn add(sum: Sum, a: Wide, b: Wide) -> Sum {
    return sum + word(a.x, b.x) + word(a.y, b.y) + word(a.z, b.z) + word(a.w, b.w);
}
//#end

//#if float
fn total(sum: Sum) -> f32 {
    return (sum.x + sum.y) + (sum.z + sum.w);
}
//#end
//#if u8
fn total(sum: Sum) -> f32 {
    return exact_f32(sum);
}
//#end
//#if i8
fn total(sum: Sum) -> f32 {
    return exact_signed(sum);
}
//#end

// The distance that a sum stands for.
fn finish(sum: Sum, a_extra: u32, b_extra: u32) -> f32 {
//#if cosine
    return 1.0 - total(sum) * (bitcast<f32>(a_extra) * bitcast<f32>(b_extra));
//#end
//#if dot
    return -total(sum);
//#end
//#if l1
    return total(sum);
//#end
//#if l2
//#if float
    return total(sum);
//#else
    // |a|² + |b|² - 2 a·b, exact: every term is below 2^32 and the result below 2^31.
    return exact_f32(a_extra + b_extra - 2u * u32(sum));
//#end
//#end
}

// Distances of one row to four queries that follow one another.
fn four_distances(row: u32, query: u32, chunks: u32) -> vec4<f32> {
    let start = row_start(row, chunks);
    let q = query * chunks;
    var a = Sum();
    var b = Sum();
    var c = Sum();
    var d = Sum();
    for (var i = 0u; i < chunks; i++) {
        let x = widen(rows[start + i * BLOCK]);
        a = add(a, x, query_chunk(q + i));
        b = add(b, x, query_chunk(q + chunks + i));
        c = add(c, x, query_chunk(q + 2u * chunks + i));
        d = add(d, x, query_chunk(q + 3u * chunks + i));
    }
    let extra = row_extra[row];
    return vec4<f32>(
        finish(a, extra, query_extra[query]),
        finish(b, extra, query_extra[query + 1u]),
        finish(c, extra, query_extra[query + 2u]),
        finish(d, extra, query_extra[query + 3u]),
    );
}

fn one_distance(row: u32, query: u32, chunks: u32) -> f32 {
    let start = row_start(row, chunks);
    let q = query * chunks;
    var sum = Sum();
    for (var i = 0u; i < chunks; i++) {
        sum = add(sum, widen(rows[start + i * BLOCK]), query_chunk(q + i));
    }
    return finish(sum, row_extra[row], query_extra[query]);
}
//#end

//#if lists
// Counters of a workgroup. One array, since a pointer to an element cannot be handed to a function everywhere.
const RANKS: u32 = 64u;
const HELD: u32 = 64u;
const TOP: u32 = HELD + QUERIES;
var<workgroup> tally: array<atomic<u32>, TOP + 1u>;

//#if subgroups
// Lanes that run together add up first, and one of them goes to the counter. Nothing is assumed of the size of a
// subgroup, nor that all of its lanes are there, nor of their order.
fn is_first(lane: u32) -> bool {
    return subgroupBroadcastFirst(lane) == lane;
}
fn take_places(counter: u32, n: u32, lane: u32) -> u32 {
    let before = subgroupExclusiveAdd(n);
    let all = subgroupAdd(n);
    var first = 0u;
    if is_first(lane) {
        first = atomicAdd(&tally[counter], all);
    }
    return subgroupBroadcastFirst(first) + before;
}
fn count(counter: u32, n: u32, lane: u32) {
    let all = subgroupAdd(n);
    if is_first(lane) {
        atomicAdd(&tally[counter], all);
    }
}
fn raise(counter: u32, n: u32, lane: u32) {
    let most = subgroupMax(n);
    if is_first(lane) {
        atomicMax(&tally[counter], most);
    }
}
//#else
fn take_places(counter: u32, n: u32, lane: u32) -> u32 {
    if n == 0u {
        return 0u;
    }
    return atomicAdd(&tally[counter], n);
}
fn count(counter: u32, n: u32, lane: u32) {
    if n > 0u {
        atomicAdd(&tally[counter], n);
    }
}
fn raise(counter: u32, n: u32, lane: u32) {
    atomicMax(&tally[counter], n);
}
//#end
//#end

//#if selection
// Candidates of each query of a workgroup, in no order: the k least are among them.
var<workgroup> pool_keys: array<u32, QUERIES * POOL>;
var<workgroup> pool_slots: array<u32, QUERIES * POOL>;
var<workgroup> crowded: u32;

// Whether a pool holds so many that the bound is worth lowering, or has no room left for one more of every invocation.
fn is_crowded(k: u32, lane: u32) -> bool {
    workgroupBarrier();
    if lane == 0u {
        var most = 0u;
        for (var q = 0u; q < QUERIES; q++) {
            most = max(most, atomicLoad(&tally[HELD + q]));
        }
        crowded = select(0u, 1u, most > min(POOL - GROUP, 2u * k + 32u));
    }
    return workgroupUniformLoad(&crowded) == 1u;
}

// Puts a candidate into the pool of query `q`. Called by all invocations of a workgroup.
fn propose(q: u32, is_near: bool, key: u32, slot: u32, lane: u32) {
    let place = take_places(HELD + q, select(0u, 1u, is_near), lane);
    if is_near {
        pool_keys[q * POOL + place] = key;
        pool_slots[q * POOL + place] = slot;
    }
}

// Leaves the k least by (key, slot) in the pool of query `q` and returns the greatest key left if k are left, else
// the greatest of all. The k-th is found bit by bit: how many of those that share the bits so far have a zero next?
fn keep_least(q: u32, k: u32, lane: u32) -> u32 {
    workgroupBarrier();
    let n = atomicLoad(&tally[HELD + q]);
    var keys: array<u32, PER_LANE>;
    var slots: array<u32, PER_LANE>;
    for (var j = 0u; j < PER_LANE; j++) {
        let i = j * GROUP + lane;
        if i < n {
            keys[j] = pool_keys[q * POOL + i];
            slots[j] = pool_slots[q * POOL + i];
        }
    }
    if lane < RANKS {
        atomicStore(&tally[lane], 0u);
    }
    workgroupBarrier();

    var need = k;
    var size = n;
    var cut = vec2<u32>(0u);
    var step = 0u;
    for (; step < 64u; step++) {
        if size <= need {
            break;
        }
        let bit = 31u - step % 32u;
        let by_key = step < 32u;
        let prefix = select(cut.y, cut.x, by_key) >> bit;
        var zeros = 0u;
        for (var j = 0u; j < PER_LANE; j++) {
            let shares = by_key || keys[j] == cut.x;
            let word = select(slots[j], keys[j], by_key) >> bit;
            zeros += select(0u, 1u, j * GROUP + lane < n && shares && word == prefix);
        }
        count(step, zeros, lane);
        workgroupBarrier();
        let all = atomicLoad(&tally[step]);
        if need > all {
            need -= all;
            size -= all;
            let one = 1u << bit;
            cut += select(vec2<u32>(0u, one), vec2<u32>(one, 0u), by_key);
        } else {
            size = all;
        }
    }
    // All that share the bits found so far are kept, whatever their other bits are.
    if step < 32u {
        cut = vec2<u32>(cut.x | (MOST >> step), MOST);
    } else if step < 64u {
        cut.y |= MOST >> (step - 32u);
    }

    workgroupBarrier();
    if lane == 0u {
        atomicStore(&tally[HELD + q], 0u);
        atomicStore(&tally[TOP], 0u);
    }
    workgroupBarrier();
    var top = 0u;
    for (var j = 0u; j < PER_LANE; j++) {
        let is_least = keys[j] < cut.x || (keys[j] == cut.x && slots[j] <= cut.y);
        let stays = j * GROUP + lane < n && is_least;
        propose(q, stays, keys[j], slots[j], lane);
        top = max(top, select(0u, keys[j], stays));
    }
    raise(TOP, top, lane);
    workgroupBarrier();
    return select(MOST, atomicLoad(&tally[TOP]), n >= k);
}
//#end
