//! A long random history of a cache, beside the plainest one.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nearkin::cache::{
    EntryId, Identity, Inserted, Invalidate, Lookup, NewEntry, Policies, Reach, Reason,
    SemanticCache, Verdict, Which,
};
use nearkin::core::mix::stream;

use super::model::{Becomes, Model, Said, shares};
use super::{TestClock, hash, near, seams, settings};
use crate::support::faulty_disk::FaultyDisk;

/// On a disk in memory.
const FOLDER: &str = "/data/cache";

const POLICIES: [&str; 3] = [
    r#"
        [default]
        guard = false
        ttl_s = 3600
        [category.own]
        scope = "user"
        threshold = 0.85
        [category.all]
        scope = "shared"
        ttl_s = 600
        [category.equal]
        mode = "exact"
        [category.similar]
        mode = "semantic"
    "#,
    r#"
        [default]
        guard = false
        ttl_s = 900
        threshold = 0.8
        [category.own]
        scope = "user"
        [category.all]
        ttl_s = 600
        [category.equal]
        mode = "exact"
        [category.similar]
        mode = "off"
    "#,
    r#"
        [default]
        guard = false
        threshold = 0.97
        [category.own]
        scope = "user"
        ttl_s = 60
        [category.all]
        scope = "shared"
        store = false
        [category.equal]
        [category.similar]
        mode = "semantic"
    "#,
];

struct Draw {
    seed: u64,
    n: u64,
}

impl Draw {
    fn below(&mut self, n: u64) -> u64 {
        self.n += 1;
        stream(self.seed, self.n) % n
    }

    fn of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize].clone()
    }

    /// One of some 60 identities.
    fn identity(&mut self) -> Identity {
        let user = self.of(&[None, Some("u"), Some("v")]);
        Identity {
            tenant: self.of(&["ann", "ben", "cem"]).into(),
            user: user.map(str::to_owned),
            category: self.of(&["faq", "own", "all", "equal", "similar"]).into(),
            model: self.of(&["m", "n"]).into(),
            compat: [self.below(2) as u8; 32],
        }
    }

    /// A question: there are 12, each in many wordings.
    fn asked(&mut self) -> (u64, Vec<f32>) {
        let question = self.below(12);
        let wording = self.below(6);
        let cosine = [1.0, 0.995, 0.97, 0.93, 0.88, 0.8][wording as usize];
        (question * 10 + wording, near(question, cosine))
    }

    fn entry(&mut self, n: u64) -> NewEntry {
        let identity = self.identity();
        let (exact, vector) = self.asked();
        let answer =
            format!("{identity:?} answers {}", if self.below(2) == 0 { n } else { exact / 10 });
        let tag = self.of(&["red", "blue"]);
        NewEntry {
            vector: (self.below(8) > 0 || identity.category == "similar").then_some(vector),
            tags: vec![tag.into()],
            attributes: BTreeMap::from([("source".to_owned(), self.of(&["a", "b"]).to_owned())]),
            writer: self.of(&[None, Some("w".to_owned())]),
            ttl: self.of(&[
                None,
                None,
                Some(Duration::from_secs(30)),
                Some(Duration::from_secs(1800)),
            ]),
            ..NewEntry::new(identity, hash(exact), "a question", answer.as_bytes())
        }
    }

    fn invalidate(&mut self, model: &Model) -> Invalidate {
        let reach = match self.below(8) {
            0 => Reach::AllTenants,
            _ => Reach::Tenant(self.of(&["ann", "ben", "cem"]).into()),
        };
        let which = match self.below(80) {
            0 => Which::All,
            1 => Which::Tag(self.of(&["red", "blue"]).into()),
            2 => Which::Category(self.of(&["faq", "own", "all"]).into()),
            3 => Which::Writer("w".into()),
            4 => Which::User("u".into()),
            5 => Which::Attributes(BTreeMap::from([("source".into(), "a".into())])),
            6 => Which::Epoch { model: Some("m".into()), compat: Some([1; 32]) },
            7..40 => Which::Exact(hash(self.below(120))),
            _ => Which::Id(match model.all.is_empty() {
                true => EntryId(1),
                false => model.all[self.below(model.all.len() as u64) as usize].id,
            }),
        };
        Invalidate { reach, which }
    }
}

struct History {
    draw: Draw,
    cache: Option<SemanticCache>,
    model: Model,
    clock: Arc<TestClock>,
    disk: Arc<FaultyDisk>,
    n_hits: u64,
    n_joined: u64,
    n_foreign: u64,
}

impl History {
    fn new(seed: u64) -> Self {
        let (clock, disk) =
            (Arc::new(TestClock::default()), Arc::new(FaultyDisk::with_folder(Path::new("/data"))));
        let policies = Policies::from_toml(POLICIES[0], "first").unwrap();
        let seams = seams(disk.clone(), &clock);
        let cache =
            SemanticCache::create(Path::new(FOLDER), settings(), policies.clone(), seams).unwrap();
        let model = Model::new(policies, &clock);
        let draw = Draw { seed, n: 0 };
        Self { draw, cache: Some(cache), model, clock, disk, n_hits: 0, n_joined: 0, n_foreign: 0 }
    }

    fn cache(&self) -> &SemanticCache {
        self.cache.as_ref().unwrap()
    }

    fn step(&mut self, n: u64) {
        match self.draw.below(1000) {
            0..500 => self.lookups(1),
            500..520 => {
                let n = 2 + self.draw.below(30) as usize;
                self.lookups(n);
            }
            520..800 => self.insert(n),
            800..830 => {
                let invalidate = self.draw.invalidate(&self.model);
                let n = self.cache().invalidate(&invalidate).unwrap();
                assert!(n >= self.model.invalidate(&invalidate), "{invalidate:?}");
            }
            830..960 => {
                let ms = self.draw.below(4000);
                self.clock.pass(ms);
                self.model.pass(ms);
            }
            960..975 => self.jump(),
            975..995 => {
                self.cache().upkeep().unwrap();
            }
            995..998 => {
                let policies = Policies::from_toml(self.draw.of(&POLICIES), "next").unwrap();
                self.model.reload(policies.clone());
                self.cache().reload(policies).unwrap();
            }
            _ => self.restart(),
        }
    }

    /// Somebody sets the wall clock, seldom by years.
    fn jump(&mut self) {
        let hour = 3_600_000;
        let by = match self.draw.below(400) {
            0 => 10 * 365 * 24 * hour,
            1 => -10 * 365 * 24 * hour,
            2..5 => hour,
            5..100 => 30_000,
            _ => -self.draw.of(&[30_000, hour]),
        };
        self.clock.set_wall(by);
        self.model.set_wall(self.clock.wall_ms());
        // Set twice, the clock is seen in between: a category that is off asks for no time.
        let faq = super::identity("ann");
        self.cache().lookup(&Lookup::new(&faq, hash(0), "the time", None)).unwrap();
    }

    fn restart(&mut self) {
        self.cache.take().unwrap().close().unwrap();
        let (policies, seams) =
            (self.model.policies.clone(), seams(self.disk.clone(), &self.clock));
        let cache = SemanticCache::open(Path::new(FOLDER), settings(), policies, seams).unwrap();
        self.model.bury();
        assert_eq!(cache.stats().n_entries, self.model.all.len() as u64);
        self.cache = Some(cache);
    }

    fn lookups(&mut self, n: usize) {
        let asked: Vec<(Identity, u64, Option<Vec<f32>>, Option<Duration>)> = (0..n)
            .map(|_| {
                let (exact, vector) = self.draw.asked();
                let vector = (self.draw.below(8) > 0).then_some(vector);
                let max_age = self.draw.of(&[None, None, None, Some(Duration::from_secs(20))]);
                (self.draw.identity(), exact, vector, max_age)
            })
            .collect();
        let lookups: Vec<Lookup<'_>> = asked
            .iter()
            .map(|(identity, exact, vector, max_age)| Lookup {
                max_age: *max_age,
                ..Lookup::new(identity, hash(*exact), "a question", vector.as_deref())
            })
            .collect();
        let verdicts = match &lookups[..] {
            [one] => vec![self.cache().lookup(one).unwrap()],
            many => self.cache().lookup_batch(many).unwrap(),
        };
        for ((identity, exact, vector, max_age), verdict) in asked.iter().zip(verdicts) {
            let max_age_ms = max_age.map_or(u64::MAX, |age| age.as_millis() as u64);
            let said = self.model.lookup(identity, hash(*exact), vector.as_deref(), max_age_ms);
            self.compare(identity, said, verdict);
        }
    }

    fn compare(&mut self, identity: &Identity, said: Said, verdict: Verdict) {
        match verdict {
            Verdict::Hit(hit) => {
                let scope = self.model.policies.of(&identity.category).scope;
                let own = self.model.all.iter().find(|kept| kept.id == hit.entry);
                let is_own = own.is_some_and(|own| shares(&own.entry.identity, identity, scope));
                self.n_foreign += u64::from(!is_own);
                self.n_hits += 1;
                let (entry, tier, similarity) = (hit.entry, hit.tier, hit.similarity);
                let age_ms = hit.age.as_millis() as u64;
                let found = Said::Hit { entry, tier, similarity, age_ms, answer: hit.answer.bytes };
                assert_eq!(found, said, "{identity:?}");
            }
            Verdict::Miss(miss) => {
                let Said::Miss { nearest } = said else { panic!("{said:?}, found {miss:?}") };
                if miss.reason == Reason::BelowThreshold {
                    assert_eq!(miss.nearest, nearest, "{identity:?}");
                }
            }
        }
    }

    fn insert(&mut self, n: u64) {
        let entry = self.draw.entry(n);
        let becomes = self.model.becomes(&entry);
        match self.cache().insert(entry.clone()).unwrap() {
            Inserted::New(id) => {
                assert_eq!(becomes, Becomes::New, "{entry:?}");
                self.model.insert(id, entry);
            }
            Inserted::Joined(id) => {
                assert_eq!(becomes, Becomes::Joins(id), "{entry:?}");
                self.n_joined += 1;
            }
            Inserted::Refused(why) => assert_eq!(becomes, Becomes::Refused, "{why:?} {entry:?}"),
        }
    }
}

/// Identical vectors, 60 identities, policies that change, clocks that jump, restarts.
#[test]
fn a_hundred_thousand_operations_are_answered_as_by_a_list() {
    let seed = 20_261_129;
    let mut history = History::new(seed);
    for n in 0..100_000 {
        history.step(n);
    }
    println!("seed {seed}: {} hits, {} joined", history.n_hits, history.n_joined);
    assert_eq!(history.n_foreign, 0);
    assert!(history.n_hits > 5_000 && history.n_joined > 500, "the history asks for something");
}
