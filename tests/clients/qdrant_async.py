"""What a user of qdrant-client's asynchronous client sees: python tests/clients/qdrant_async.py URL"""
import asyncio

from qdrant_client import AsyncQdrantClient
from qdrant_client import models as m

import checks

NAME = "async"


async def filled(url):
    c = AsyncQdrantClient(url=url, timeout=30)
    if await c.collection_exists(NAME):
        await c.delete_collection(NAME)
    await c.create_collection(NAME, vectors_config=m.VectorParams(size=3, distance=m.Distance.EUCLID))
    blocks = [[m.PointStruct(id=i, vector=[i, 0, 0], payload={"even": i % 2 == 0}) for i in range(b, b + 25)]
              for b in range(0, 500, 25)]
    await asyncio.gather(*(c.upsert(NAME, block) for block in blocks))
    return c


async def check_writes_at_once_are_all_there(url):
    c = await filled(url)
    assert (await c.count(NAME)).count == 500
    await c.close()


async def check_a_hundred_queries_at_once_each_get_their_own_answer(url):
    c = await filled(url)
    answers = await asyncio.gather(*(c.query_points(NAME, query=[i + 0.25, 0, 0], limit=2) for i in range(100)))
    for i, answer in enumerate(answers):
        assert [(p.id, p.score) for p in answer.points] == [(i, 0.25), (i + 1, 0.75)], answer
    await c.close()


async def check_reads_during_writes_see_whole_points(url):
    c = await filled(url)

    async def write():
        for round_ in range(20):
            await c.upsert(NAME, [m.PointStruct(id=i, vector=[round_, round_, round_], payload={"round": round_})
                                  for i in range(50)])

    async def read():
        for _ in range(40):
            for point in await c.retrieve(NAME, list(range(50)), with_vectors=True):
                own = point.payload.get("round")
                assert own is None or point.vector == [own] * 3, point

    await asyncio.gather(write(), read(), read())
    await c.close()


async def check_filters_scrolls_and_deletes(url):
    c = await filled(url)
    even = m.Filter(must=[m.FieldCondition(key="even", match=m.MatchValue(value=True))])
    found = await c.query_points(NAME, query=[0, 0, 0], query_filter=even, limit=4)
    assert [p.id for p in found.points] == [0, 2, 4, 6], found
    page, offset = await c.scroll(NAME, scroll_filter=even, limit=10, offset=20)
    assert [p.id for p in page] == list(range(20, 40, 2)) and offset == 40, (page, offset)
    await c.delete(NAME, points_selector=even)
    assert (await c.count(NAME)).count == 250
    await c.close()


if __name__ == "__main__":
    checks.run("qdrant-client async", globals())
