"""What a user of llama-index's Qdrant store sees: python tests/clients/llama_index_store.py URL"""
import math

from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores import (
    FilterCondition, FilterOperator, MetadataFilter, MetadataFilters, VectorStoreQuery)
from llama_index.core.vector_stores.types import VectorStoreQueryMode
from llama_index.vector_stores.qdrant import QdrantVectorStore
from qdrant_client import AsyncQdrantClient, QdrantClient

import checks

NAME = "llama_index"


def node(i):
    """The i-th of 30 nodes; ten of each document."""
    made = TextNode(id_=f"00000000-0000-0000-0000-{i:012d}", text=f"text {i}", embedding=degree(3 * i),
                    metadata={"n": i, "even": i % 2 == 0, "tags": ["a", "b"] if i % 3 else ["c"], "name": f"name {i}"})
    made.relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id=f"document {i // 10}")
    return made


def degree(i):
    return [math.cos(math.radians(i)), math.sin(math.radians(i))]


def store(url):
    client = QdrantClient(url=url)
    if client.collection_exists(NAME):
        client.delete_collection(NAME)
    made = QdrantVectorStore(NAME, client=client, aclient=AsyncQdrantClient(url=url))
    assert len(made.add([node(i) for i in range(30)])) == 30
    return made


def query(k=3, at=0, **rest):
    return VectorStoreQuery(query_embedding=degree(at), similarity_top_k=k, **rest)


def numbers(result):
    return [found.metadata["n"] for found in result.nodes]


def check_nodes_come_back_nearest_first(url):
    found = store(url).query(query(at=30))
    assert numbers(found)[0] == 10 and set(numbers(found)) == {9, 10, 11}, found
    assert found.nodes[0].get_content() == "text 10" and abs(found.similarities[0] - 1) < 1e-6, found


def check_filters_of_every_operator(url):
    s, op = store(url), FilterOperator
    for key, operator, value, expected in [
        ("n", op.EQ, 7, {7}), ("n", op.NE, 0, set(range(1, 30))), ("n", op.GT, 26, {27, 28, 29}), ("n", op.LTE, 1, {0, 1}),
        ("n", op.IN, [3, 4], {3, 4}), ("n", op.NIN, list(range(28)), {28, 29}), ("tags", op.EQ, "c", set(range(0, 30, 3))),
        ("name", op.EQ, "name 5", {5}), ("name", op.TEXT_MATCH, "name 5", {5}), ("absent", op.IS_EMPTY, None, set(range(30))),
    ]:
        filters = MetadataFilters(filters=[MetadataFilter(key=key, operator=operator, value=value)])
        received = set(numbers(s.query(query(k=40, filters=filters))))
        assert received == expected, (key, operator, value, received)


def check_filters_joined_by_or(url):
    filters = MetadataFilters(condition=FilterCondition.OR, filters=[
        MetadataFilter(key="n", value=2), MetadataFilter(key="n", operator=FilterOperator.GTE, value=28)])
    assert numbers(store(url).query(query(k=9, filters=filters))) == [2, 28, 29]


def check_a_document_is_deleted_with_its_nodes(url):
    s = store(url)
    s.delete("document 0")
    assert numbers(s.query(query(k=30))) == list(range(10, 30))


def check_nodes_are_got_and_deleted(url):
    s = store(url)
    wanted = [node(4).node_id, node(5).node_id]
    assert {n.metadata["n"] for n in s.get_nodes(node_ids=wanted)} == {4, 5}
    s.delete_nodes(node_ids=wanted)
    assert s.get_nodes(node_ids=wanted) == []


def check_diverse_results(url):
    found = store(url).query(query(k=3, mode=VectorStoreQueryMode.MMR, mmr_threshold=0.1))
    assert len(set(numbers(found))) == 3, found


async def check_asynchronous_calls(url):
    s = store(url)
    assert numbers(await s.aquery(query(k=2))) == [0, 1]
    await s.async_add([node(77)])
    await s.adelete("document 1")
    assert set(numbers(await s.aquery(query(k=40)))) == {*range(10), *range(20, 30), 77}


def check_the_store_is_cleared(url):
    s = store(url)
    s.clear()
    assert not s.client.collection_exists(NAME) or s.client.count(NAME).count == 0


if __name__ == "__main__":
    checks.run("llama-index-vector-stores-qdrant", globals())
