//! Qdrant's REST, as its clients speak it: bodies in and out, and what the engine is asked for them.
