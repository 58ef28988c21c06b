"""What a user of langchain-qdrant sees: python tests/clients/langchain_store.py URL"""
import asyncio
import hashlib
import uuid

import numpy as np
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_qdrant import QdrantVectorStore
from qdrant_client import QdrantClient
from qdrant_client import models as m

import checks

NAME = "langchain"
TEXTS = ["the cat sat on the mat", "a cat and a dog", "stock markets fell today", "markets rose and stocks too",
         "the dog ate my homework", "rust is a language"]


class Words(Embeddings):
    """Sums of a vector for each word: texts that share words are near."""

    def embed_query(self, text):
        rows = []
        for word in text.lower().split():
            seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big")
            rows.append(np.random.default_rng(seed).normal(size=64))
        return np.sum(rows, axis=0).tolist()

    def embed_documents(self, texts):
        return [self.embed_query(text) for text in texts]


def ids():
    return [str(uuid.UUID(int=i + 1)) for i in range(len(TEXTS))]


def store(url):
    metadatas = [{"n": i, "topic": "money" if "market" in text else "other"} for i, text in enumerate(TEXTS)]
    return QdrantVectorStore.from_texts(TEXTS, Words(), metadatas=metadatas, ids=ids(), url=url, collection_name=NAME,
                                        force_recreate=True)


def money():
    return m.Filter(must=[m.FieldCondition(key="metadata.topic", match=m.MatchValue(value="money"))])


def check_texts_that_share_words_are_found_with_their_metadata(url):
    found = store(url).similarity_search("cat on mat", k=2)
    assert [d.page_content for d in found] == [TEXTS[0], TEXTS[1]], found
    assert found[0].metadata["n"] == 0 and found[0].metadata["topic"] == "other", found


def check_scores_are_cosines_and_thresholds_cut(url):
    s, words = store(url), Words()
    (found, score), *_ = s.similarity_search_with_score("rust language", k=3)
    a, b = np.array(words.embed_query("rust language")), np.array(words.embed_query(TEXTS[5]))
    assert found.page_content == TEXTS[5] and abs(score - a @ b / np.linalg.norm(a) / np.linalg.norm(b)) < 1e-5, score
    assert len(s.similarity_search_with_score("rust language", k=6, score_threshold=score - 1e-4)) == 1


def check_filters_hold(url):
    found = store(url).similarity_search("cat", k=6, filter=money())
    assert {d.metadata["n"] for d in found} == {2, 3}, found


def check_diverse_results(url):
    found = store(url).max_marginal_relevance_search("markets stocks fell", k=3, fetch_k=6, lambda_mult=0.3)
    assert len({d.page_content for d in found}) == 3 and found[0].metadata["topic"] == "money", found


def check_documents_are_added_got_and_deleted(url):
    s = store(url)
    new = str(uuid.UUID(int=99))
    assert s.add_documents([Document("a horse in the rain", metadata={"n": 9})], ids=[new]) == [new]
    assert s.similarity_search("horse rain", k=1)[0].metadata["n"] == 9
    assert [d.page_content for d in s.get_by_ids([new, ids()[1]])] == ["a horse in the rain", TEXTS[1]]
    assert s.delete([new]) and s.get_by_ids([new]) == []


def check_a_retriever_over_what_is_there(url):
    store(url)
    again = QdrantVectorStore.from_existing_collection(collection_name=NAME, embedding=Words(), url=url)
    retriever = again.as_retriever(search_kwargs={"k": 1, "filter": money()})
    assert retriever.invoke("stock markets")[0].page_content == TEXTS[2]


def check_a_wrong_dimension_is_noticed(url):
    class Short(Words):
        def embed_query(self, text):
            return super().embed_query(text)[:8]

    store(url)
    try:
        QdrantVectorStore(QdrantClient(url=url), NAME, Short())
    except Exception as error:
        assert "64" in str(error) and "8" in str(error), error
        return
    raise AssertionError("a store of 64 dimensions took an embedder of 8")


def check_asynchronous_calls(url):
    s = store(url)

    async def ask():
        return await asyncio.gather(*(s.asimilarity_search(text, k=1) for text in TEXTS))

    assert [found[0].page_content for found in asyncio.run(ask())] == TEXTS


if __name__ == "__main__":
    checks.run("langchain-qdrant", globals())
