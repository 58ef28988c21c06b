//! A question for the model, asked of memory; and its answer, remembered.

use std::time::Duration;

use serde_json::Value;

use crate::cache::{
    EntryId, Hit, Identity, Inserted, Lookup, Miss, NewEntry, Reason, SemanticCache, Tier, Verdict,
};
use crate::error::{Error, ErrorKind, Result};
use crate::server::cache::front::{Found, Front, Looked, Missed};
use crate::server::cache::judge::Near;
use crate::server::cache::kept::text;
use crate::server::cache::question::{PROXY, Question};

/// What a question may cost and save.
#[derive(Clone, Copy, Debug)]
pub struct Saved {
    /// Milliseconds that the model took.
    pub ms: u64,
    /// Tokens that it used.
    pub tokens: u64,
}

impl Front {
    /// Asks memory. `embed_took` is what the vector took.
    ///
    /// # Errors
    /// Those of the cache.
    pub fn look(
        &self,
        question: &Question,
        vector: Option<&[f32]>,
        embed_took: Duration,
    ) -> Result<Looked> {
        let identity = identity(question);
        let verdict = self.proxied()?.lookup(&Lookup {
            identity: &identity,
            exact: question.asked.exact,
            text: &question.asked.text,
            vector,
            max_age: question.control.max_age,
            threshold: question.control.threshold,
            trusted: question.is_trusted(),
            embed_took,
        })?;
        match verdict {
            Verdict::Hit(hit) => found(hit).map(|found| Looked::Found(Box::new(found))),
            Verdict::Miss(miss) => Ok(Looked::Missed(missed(&miss))),
        }
    }

    /// Remembers an answer; says what became of it, in a word.
    ///
    /// # Errors
    /// Those of the cache.
    pub fn store(
        &self,
        question: &Question,
        vector: Option<Vec<f32>>,
        answer: &Value,
        saved: Saved,
        missed: &Missed,
    ) -> Result<&'static str> {
        let cache = self.proxied()?;
        let has_judge = cache.policies().of(question.category()).judge.is_some();
        if let (Some(entry), Some(similarity), false) =
            (missed.explore, missed.similarity, has_judge)
        {
            self.learn(&cache, (entry, similarity), question, answer)?;
        }
        let inserted = cache.insert(NewEntry {
            identity: identity(question),
            exact: question.asked.exact,
            text: question.asked.text.clone(),
            vector,
            answer: answer.to_string().into_bytes(),
            attributes: Default::default(),
            tags: Vec::new(),
            writer: question.caller.key().map(|key| key.to_string()),
            ttl: question.control.ttl,
            saved_ms: saved.ms.try_into().unwrap_or(u32::MAX),
            saved_tokens: saved.tokens.try_into().unwrap_or(u32::MAX),
            ticket: missed.ticket,
        })?;
        Ok(match inserted {
            Inserted::New(_) => "new",
            Inserted::Joined(_) => "joined",
            Inserted::Refused(why) => why.word(),
        })
    }

    /// Learns whether the answer of an entry would have been right, now that the model's is known: it would if it says the same.
    fn learn(
        &self,
        cache: &SemanticCache,
        (entry, similarity): (EntryId, f32),
        question: &Question,
        answer: &Value,
    ) -> Result<()> {
        let Some(kept) = cache.entry(entry, question.tenant())? else { return Ok(()) };
        let kept = serde_json::from_slice::<Value>(&kept.bytes).unwrap_or_default();
        let said = |answer: &Value| text(question.asked.endpoint, answer).trim().to_owned();
        cache.observe(entry, similarity, said(&kept) == said(answer)).map(drop)
    }

    /// The question and the answer of an entry, if it is there and of the tenant that asks.
    ///
    /// # Errors
    /// Those of the cache.
    pub fn known(&self, question: &Question, entry: EntryId) -> Result<Option<(String, Value)>> {
        let kept = self.proxied()?.entry(entry, question.tenant())?;
        let known = kept.map(|kept| (kept.text, serde_json::from_slice(&kept.bytes)));
        Ok(known.and_then(|(text, answer)| Some((text, answer.ok()?))))
    }

    /// Learns whether the answer of a near entry would have been right; one that would stands in for an answer that is not
    /// remembered, for what is left of its life.
    ///
    /// # Errors
    /// Those of the cache.
    pub fn judged(&self, near: &Near, is_same: bool) -> Result<()> {
        let (cache, question) = (self.proxied()?, &near.question);
        cache.observe(near.entry, near.similarity, is_same)?;
        if !is_same || near.has_own {
            return Ok(());
        }
        let identity = identity(question);
        let (exact, text) = (question.asked.exact, question.asked.text.as_str());
        let lookup = Lookup::new(&identity, exact, text, near.vector.as_deref());
        let nearest = cache.explain(&lookup)?.nearest;
        let Some(left) = nearest.iter().find(|own| own.entry == near.entry).map(|own| own.left)
        else {
            return Ok(());
        };
        let Some(kept) = cache.entry(near.entry, question.tenant())? else { return Ok(()) };
        cache.insert(NewEntry {
            identity,
            exact,
            text: question.asked.text.clone(),
            vector: near.vector.clone(),
            answer: kept.bytes,
            attributes: kept.attributes,
            tags: kept.tags,
            writer: kept.writer,
            ttl: Some(left),
            saved_ms: kept.saved_ms,
            saved_tokens: kept.saved_tokens,
            ticket: near.ticket,
        })?;
        Ok(())
    }

    /// The cache of requests for the model.
    fn proxied(&self) -> Result<std::sync::Arc<SemanticCache>> {
        self.caches().get(PROXY).ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                "cache_not_found",
                format!("there is no cache {PROXY:?}"),
            )
        })
    }
}

fn identity(question: &Question) -> Identity {
    Identity {
        tenant: question.tenant().to_owned(),
        user: question.asked.user.clone(),
        category: question.category().to_owned(),
        model: question.asked.model.clone(),
        compat: question.asked.compat,
    }
}

fn found(hit: Hit) -> Result<Found> {
    let answer = serde_json::from_slice(&hit.answer.bytes).map_err(|error| {
        let message = format!("the answer of entry {} is no JSON: {error}", hit.entry);
        Error::new(ErrorKind::Corrupt, "cache_answer", message)
    })?;
    Ok(Found {
        answer,
        is_exact: hit.tier == Tier::Exact,
        similarity: hit.similarity,
        threshold: hit.threshold,
        age: hit.age,
        entry: hit.entry,
        reason: hit.reason.word(),
    })
}

fn missed(miss: &Miss) -> Missed {
    Missed {
        reason: miss.reason.word(),
        similarity: miss.nearest.map(|(_, similarity)| similarity),
        threshold: Some(miss.threshold),
        is_off: miss.reason == Reason::CategoryOff,
        vector: None,
        explore: miss.explore,
        grey: miss.grey,
        ticket: Some(miss.ticket),
    }
}
