//! An answer that the model is giving: remembered when it is whole, and given to all that wait for it.

use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;

use crate::server::cache::ask::Saved;
use crate::server::cache::control::Outcome;
use crate::server::cache::flight::Lead;
use crate::server::cache::front::{Missed, Told};
use crate::server::cache::judge::Near;
use crate::server::cache::kept::{Kept, kept, n_tokens};
use crate::server::cache::question::Question;
use crate::server::dispatch::Shared;
use crate::server::work::Task;

/// What is to be done with the answer.
pub struct Remembering {
    shared: Arc<Shared>,
    question: Arc<Question>,
    missed: Missed,
    vector: Option<Vec<f32>>,
    lead: Option<Lead>,
    outcome: Outcome,
    began: Instant,
}

impl Remembering {
    /// Of a question that was not answered from memory; the model is asked now.
    pub fn new(
        shared: Arc<Shared>,
        question: Arc<Question>,
        mut missed: Missed,
        lead: Option<Lead>,
        outcome: Outcome,
    ) -> Self {
        let vector = missed.vector.take();
        Self { shared, question, missed, vector, lead, outcome, began: Instant::now() }
    }

    /// There is no answer to remember, for this reason.
    pub fn nothing(self, why: &'static str) {
        self.decided(why.into());
    }

    /// Remembers an answer.
    pub async fn keep(mut self, answer: Result<Value, &'static str>) {
        let stored = match answer.and_then(|own| kept(self.question.asked.endpoint, &own)) {
            Err(why) => why.into(),
            Ok((reach, answer)) => {
                let answer = Arc::new(answer);
                let stored = self.store(reach, &answer).await;
                if let Some(lead) = self.lead.take() {
                    lead.land(answer);
                }
                stored
            }
        };
        self.judge(matches!(&*stored, "new" | "joined"));
        self.decided(stored);
    }

    /// Asks the judge of the category, if it has one and something was near.
    fn judge(&self, has_own: bool) {
        let Missed { grey, explore, similarity, ticket, .. } = self.missed;
        let (Some(entry), Some(similarity)) = (grey.or(explore), similarity) else { return };
        let front = &self.shared.front;
        let policies = front.caches().policies();
        let Some(url) = policies.of(self.question.category()).judge.clone() else { return };
        let (question, vector) = (Arc::clone(&self.question), self.vector.clone());
        let near = Near { question, entry, similarity, vector, ticket, has_own };
        front.judges().ask(front, url, near);
    }

    /// Stores an answer; says what became of it.
    async fn store(&self, reach: Kept, answer: &Arc<Value>) -> String {
        if self.question.control.no_store {
            return "no_store".into();
        }
        let (question, answer) = (Arc::clone(&self.question), Arc::clone(answer));
        // An answer that depends on the wording is one for this wording.
        let vector = self.vector.clone().filter(|_| reach == Kept::ByMeaning);
        let ms = self.began.elapsed().as_millis() as u64;
        let front = Arc::clone(&self.shared.front);
        let missed = self.missed.clone();
        let task = Task { route: "remember", collection: "", n_bytes: 0, is_plain: false };
        let caller = question.caller.clone();
        let stored = self.shared.work.run(&caller, task, move |turn| {
            let saved = Saved { ms, tokens: n_tokens(&answer) };
            let stored = front.store(&question, vector, &answer, saved, &missed);
            (stored, turn.worked_s())
        });
        match stored.await {
            Ok((Ok(word), worked_s)) => {
                self.shared.work.learn(task, worked_s);
                word.into()
            }
            Ok((Err(error), _)) => {
                self.shared.front.failed_open(&self.shared.ledger, "store_failed");
                self.shared.ledger.note(&format!("an answer could not be remembered: {error}"));
                error.code().into()
            }
            Err(_) => {
                self.shared.front.failed_open(&self.shared.ledger, "overloaded");
                "overloaded".into()
            }
        }
    }

    fn decided(&self, stored: String) {
        let Missed { reason, similarity, threshold, .. } = self.missed;
        let told = Told { reason, similarity, threshold, stored: Some(stored) };
        self.shared.front.decided(&self.question, self.outcome, told, self.shared.ledger.now());
    }
}
