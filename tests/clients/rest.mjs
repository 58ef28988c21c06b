// What a user of @qdrant/js-client-rest sees: node tests/clients/rest.mjs URL, with NODE_PATH or node_modules beside it.
import assert from "node:assert/strict";
import { createRequire } from "node:module";

const require = createRequire(`${process.cwd()}/`);
const { QdrantClient } = require("@qdrant/js-client-rest");
const client = new QdrantClient({ url: process.argv[2], timeout: 30_000 });
const name = "javascript";

async function filled() {
  if ((await client.collectionExists(name)).exists) await client.deleteCollection(name);
  await client.createCollection(name, { vectors: { size: 2, distance: "Dot" } });
  const points = [...Array(40).keys()].map((i) => ({ id: i, vector: [i, 1], payload: { kind: i % 2 ? "odd" : "even", i } }));
  const { status } = await client.upsert(name, { wait: true, points });
  assert.equal(status, "completed");
}

const checks = {
  async "points are found, nearest first, with payload"() {
    const { points } = await client.query(name, { query: [1, 0], limit: 2, with_payload: true });
    assert.deepEqual(points.map((p) => [p.id, p.score, p.payload]), [[39, 39, { kind: "odd", i: 39 }], [38, 38, { kind: "even", i: 38 }]]);
  },
  async "the older search finds the same"() {
    const filter = { must: [{ key: "kind", match: { value: "even" } }] };
    const older = await client.search(name, { vector: [1, 0], limit: 3, filter });
    assert.deepEqual(older.map((p) => p.id), [38, 36, 34]);
    const batch = await client.searchBatch(name, { searches: [{ vector: [1, 0], limit: 1 }, { vector: [-1, 0], limit: 1 }] });
    assert.deepEqual(batch.map((points) => points[0].id), [39, 0]);
  },
  async "the older recommendation leaves its examples out"() {
    const found = await client.recommend(name, { positive: [39], limit: 2 });
    assert.deepEqual(found.map((p) => p.id), [38, 37]);
  },
  async "points are scrolled, counted and retrieved"() {
    const page = await client.scroll(name, { limit: 3, offset: 5, with_payload: false });
    assert.deepEqual([page.points.map((p) => p.id), page.next_page_offset], [[5, 6, 7], 8]);
    assert.equal((await client.count(name, { filter: { must: [{ key: "i", range: { lt: 10 } }] }, exact: true })).count, 10);
    assert.deepEqual((await client.retrieve(name, { ids: [3, 99], with_vector: true })).map((p) => [p.id, p.vector]), [[3, [3, 1]]]);
  },
  async "payloads change and points go"() {
    await client.setPayload(name, { wait: true, payload: { seen: true }, points: [1] });
    await client.deletePayload(name, { wait: true, keys: ["kind"], points: [1] });
    assert.deepEqual((await client.retrieve(name, { ids: [1] }))[0].payload, { i: 1, seen: true });
    await client.delete(name, { wait: true, filter: { must: [{ key: "kind", match: { value: "odd" } }] } });
    assert.equal((await client.count(name)).count, 21);
  },
  async "groups and facets"() {
    const { groups } = await client.queryGroups(name, { query: [1, 0], group_by: "kind", limit: 2, group_size: 1 });
    assert.deepEqual(groups.map((g) => [g.id, g.hits[0].id]), [["odd", 39], ["even", 38]]);
    const { hits } = await client.facet(name, { key: "kind" });
    assert.deepEqual(hits, [{ value: "even", count: 20 }, { value: "odd", count: 20 }]);
  },
  async "indexes and collections are shown"() {
    await client.createPayloadIndex(name, { wait: true, field_name: "kind", field_schema: { type: "keyword", is_tenant: true } });
    const info = await client.getCollection(name);
    assert.equal(info.payload_schema.kind.params.is_tenant, true);
    assert.deepEqual([info.status, info.points_count, info.config.params.vectors], ["green", 40, { size: 2, distance: "Dot" }]);
    assert.ok((await client.getCollections()).collections.some((c) => c.name === name));
  },
  async "mistakes are errors with a message"() {
    await assert.rejects(client.count("javascript_absent"), (error) => error.status === 404 && /absent/.test(JSON.stringify(error.data)));
    await assert.rejects(client.query(name, { query: [1, 2, 3] }), (error) => error.status === 400);
  },
};

let [passed, failed] = [0, 0];
for (const [title, check] of Object.entries(checks)) {
  try {
    await filled();
    await check();
    passed += 1;
  } catch (error) {
    failed += 1;
    console.log(`js-client-rest: ${title} failed\n${error.stack}`);
  }
}
console.log(`js-client-rest: ${passed} passed, ${failed} failed`);
process.exit(failed || !passed ? 1 : 0);
