"""What a user of qdrant-client sees: python tests/clients/qdrant_sync.py URL"""
import uuid
import warnings

import numpy as np
from qdrant_client import QdrantClient
from qdrant_client import models as m

import checks

NOTES = "sync_notes"
TOPICS = ["rust", "search", "cache"]


def client(url):
    return QdrantClient(url=url, timeout=30)


def filled(url, name=NOTES, n=60):
    """A collection of `n` points, the i-th of which points to the i-th degree."""
    c = client(url)
    if c.collection_exists(name):
        c.delete_collection(name)
    assert c.create_collection(name, vectors_config=m.VectorParams(size=2, distance=m.Distance.COSINE))
    points = [m.PointStruct(id=i, vector=degree(i), payload={"topic": TOPICS[i % 3], "n": i, "user": f"u{i % 4}"})
              for i in range(n)]
    assert c.upsert(name, points).status == m.UpdateStatus.COMPLETED
    return c


def degree(i):
    return [float(np.cos(np.radians(i))), float(np.sin(np.radians(i)))]


def by(key, value):
    return m.Filter(must=[m.FieldCondition(key=key, match=m.MatchValue(value=value))])


def check_versions_fit_without_a_warning(url):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert client(url).info().version.startswith("1.18")


def check_nearest_points_come_first_with_their_cosine(url):
    found = filled(url).query_points(NOTES, query=degree(30), limit=3).points
    assert [p.id for p in found][0] == 30 and {p.id for p in found} == {29, 30, 31}, found
    assert abs(found[1].score - np.cos(np.radians(1))) < 1e-6, found
    assert found[0].payload == {"topic": "rust", "n": 30, "user": "u2"}, found


def check_a_filter_never_gives_too_few(url):
    c = filled(url)
    found = c.query_points(NOTES, query=degree(0), query_filter=by("topic", "cache"), limit=15).points
    assert [p.id for p in found] == list(range(2, 47, 3)), found


def theirs(c):
    """What one user is answered."""
    found = c.query_points(NOTES, query=degree(7), query_filter=by("user", "u1"), limit=5).points
    return [(p.id, p.score, p.payload) for p in found]


def check_a_tenant_index_is_shown_and_changes_no_answer(url):
    c = filled(url)
    before = theirs(c)
    params = m.KeywordIndexParams(type="keyword", is_tenant=True)
    c.create_payload_index(NOTES, "user", field_schema=params)
    schema = c.get_collection(NOTES).payload_schema["user"]
    assert schema.data_type == m.PayloadSchemaType.KEYWORD and schema.params.is_tenant is True, schema
    assert len(before) == 5 and theirs(c) == before


def check_all_pages_of_a_scroll_are_all_points(url):
    c, seen, offset = filled(url), [], None
    while True:
        page, offset = c.scroll(NOTES, limit=7, offset=offset)
        seen += [p.id for p in page]
        if offset is None:
            break
    assert seen == list(range(60)), seen


def check_payloads_are_set_overwritten_deleted_and_cleared(url):
    c = filled(url)
    c.set_payload(NOTES, {"seen": True}, points=[1, 2])
    c.overwrite_payload(NOTES, {"only": 1}, points=[3])
    c.delete_payload(NOTES, ["topic"], points=by("n", 1))
    c.clear_payload(NOTES, points_selector=[4])
    got = {p.id: p.payload for p in c.retrieve(NOTES, [1, 2, 3, 4])}
    assert got == {1: {"n": 1, "user": "u1", "seen": True}, 2: {"topic": "cache", "n": 2, "user": "u2", "seen": True},
                   3: {"only": 1}, 4: {}}, got


def check_points_are_deleted_by_id_and_by_filter(url):
    c = filled(url)
    c.delete(NOTES, points_selector=[0, 1])
    c.delete(NOTES, points_selector=m.FilterSelector(filter=by("topic", "search")))
    assert c.count(NOTES).count == 39 and c.get_collection(NOTES).points_count == 39
    assert c.retrieve(NOTES, [0, 4]) == []


def check_numpy_and_generators_upload(url):
    c = filled(url, n=1)
    rows = np.random.default_rng(1).normal(size=(500, 2)).astype(np.float32)
    c.upload_collection(NOTES, vectors=rows, payload=({"n": i} for i in range(500)), ids=range(500), batch_size=64,
                        wait=True)
    assert c.count(NOTES).count == 500
    expected = np.argsort(-(rows @ rows[3]) / np.linalg.norm(rows, axis=1))[:10].tolist()
    assert [p.id for p in c.query_points(NOTES, query=rows[3], limit=10).points] == expected


def check_points_without_ids_get_uuids(url):
    c = filled(url, n=1)
    c.upload_points(NOTES, [m.PointStruct(id=str(uuid.uuid4()), vector=[1, i]) for i in range(20)], wait=True)
    assert c.count(NOTES).count == 21


def check_named_vectors_are_searched_apart(url):
    c, name = client(url), "sync_named"
    c.delete_collection(name)
    c.create_collection(name, vectors_config={
        "flat": m.VectorParams(size=1, distance=m.Distance.EUCLID),
        "dot": m.VectorParams(size=2, distance=m.Distance.DOT, datatype=m.Datatype.FLOAT16)})
    c.upsert(name, [m.PointStruct(id=i, vector={"flat": [i * i], "dot": [i, 1]}) for i in range(9)])
    assert [(p.id, p.score) for p in c.query_points(name, query=[0], using="flat", limit=3).points] == [
        (0, 0.0), (1, 1.0), (2, 4.0)]
    assert [p.id for p in c.query_points(name, query=[1, 0], using="dot", limit=2).points] == [8, 7]
    checks.refused(lambda: c.query_points(name, query=[1, 0], limit=2), 400, "vector")


def check_fused_searches_are_one_list(url):
    c = filled(url)
    found = c.query_points(NOTES, limit=4, query=m.FusionQuery(fusion=m.Fusion.RRF), prefetch=[
        m.Prefetch(query=degree(10), limit=5), m.Prefetch(query=degree(12), limit=5)]).points
    assert {p.id for p in found[:2]} == {10, 12} and len(found) == 4, found


def check_groups_and_facets(url):
    c = filled(url)
    groups = c.query_points_groups(NOTES, group_by="topic", query=degree(0), limit=3, group_size=2).groups
    assert [(g.id, [p.id for p in g.hits]) for g in groups] == [
        ("rust", [0, 3]), ("search", [1, 4]), ("cache", [2, 5])], groups
    assert {(h.value, h.count) for h in c.facet(NOTES, "user").hits} == {(f"u{i}", 15) for i in range(4)}


def check_aliases_stand_for_collections(url):
    c = filled(url)
    c.update_collection_aliases([m.CreateAliasOperation(
        create_alias=m.CreateAlias(collection_name=NOTES, alias_name="sync_alias"))])
    assert c.count("sync_alias").count == 60
    assert [a.alias_name for a in c.get_collection_aliases(NOTES).aliases] == ["sync_alias"]
    c.update_collection_aliases([m.DeleteAliasOperation(delete_alias=m.DeleteAlias(alias_name="sync_alias"))])
    checks.refused(lambda: c.count("sync_alias"), 404, "sync_alias")


def check_what_a_local_client_has_can_be_moved_here(url):
    local = QdrantClient(":memory:")
    local.create_collection("sync_moved", vectors_config=m.VectorParams(size=2, distance=m.Distance.DOT))
    local.upsert("sync_moved", [m.PointStruct(id=i, vector=[i, 1], payload={"i": i}) for i in range(30)])
    there = client(url)
    local.migrate(there, recreate_on_collision=True)
    assert there.scroll("sync_moved", limit=100, with_vectors=True) == local.scroll(
        "sync_moved", limit=100, with_vectors=True)


def check_mistakes_are_named(url):
    c = filled(url)
    checks.refused(lambda: c.count("sync_absent"), 404, "sync_absent")
    checks.refused(lambda: c.query_points(NOTES, query=[1, 2, 3]), 400, "3")
    checks.refused(lambda: c.upsert(NOTES, [m.PointStruct(id="no uuid", vector=[1, 2])]), 400, "no uuid")
    checks.refused(lambda: c.create_collection(NOTES, vectors_config=m.VectorParams(
        size=2, distance=m.Distance.DOT)), 409, NOTES)
    checks.refused(lambda: c.create_shard_key(NOTES, "a"), 400, "shard")
    checks.refused(lambda: c.create_snapshot(NOTES), 400, "snapshot")


if __name__ == "__main__":
    checks.run("qdrant-client", globals())
