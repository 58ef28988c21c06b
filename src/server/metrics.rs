//! What is counted and timed, in the text form that Prometheus reads.
//!
//! Tenants are told apart by size only: their names are nobody's business who may read this.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::engine::RecallFacts;
use crate::plan::cost::Way;
use crate::server::fair::Load;
use crate::server::stages::{Stage, Taken};

/// Upper ends of the buckets of latencies, in seconds.
const ENDS_S: [f64; 16] = [
    0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0,
    10.0,
];

/// How a search was answered, as counted: the ways of the planner, and none for what searches nothing.
const PLANS: [Option<Way>; 11] = [
    None,
    Some(Way::Nothing),
    Some(Way::Listed),
    Some(Way::Coded),
    Some(Way::Signs),
    Some(Way::Bounds),
    Some(Way::Scan),
    Some(Way::Tree),
    Some(Way::Graph),
    Some(Way::CodedTogether),
    Some(Way::CodedInBlocks),
];

/// How many points a tenant has, as far as it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TenantClass {
    /// A key of no tenant.
    All,
    /// Fewer than a thousand.
    Small,
    /// Fewer than a hundred thousand.
    Medium,
    /// More.
    Large,
}

impl TenantClass {
    const EVERY: [Self; 4] = [Self::All, Self::Small, Self::Medium, Self::Large];

    /// The class of a tenant of so many points; of a key without tenant for none.
    pub fn new(n_points: Option<u64>) -> Self {
        match n_points {
            None => Self::All,
            Some(0..1_000) => Self::Small,
            Some(1_000..100_000) => Self::Medium,
            Some(_) => Self::Large,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Small => "small",
            Self::Medium => "medium",
            Self::Large => "large",
        }
    }
}

/// An answered request.
#[derive(Clone, Copy, Debug)]
pub struct Observed {
    /// Method of the route; nothing where there is no route.
    pub method: &'static str,
    /// Pattern of the route.
    pub route: &'static str,
    /// The status of the answer.
    pub status: u16,
    /// From the end of the headers to the answer.
    pub seconds: f64,
    /// Who asked.
    pub class: TenantClass,
    /// The way that was taken, where something was searched.
    pub plan: Option<Way>,
    /// Where its time went, if a worker worked on it.
    pub taken: Option<Taken>,
}

/// What is the case when it is asked for.
#[derive(Clone, Debug, Default)]
pub struct Gauges {
    /// Work that waits and runs.
    pub load: Option<Load>,
    /// Collections.
    pub n_collections: u64,
    /// Bytes by part: rows, codes, graph and so on, of all collections together.
    pub memory: Vec<(&'static str, u64)>,
    /// Whether something is worse than it should be: a card lost, keys unreadable.
    pub is_degraded: bool,
    /// Panics that were contained, since the server began.
    pub n_panics: u64,
    /// Searches of all collections that were asked again.
    pub recall: RecallFacts,
    /// Requests for the model.
    pub cache: CacheCounts,
}

/// What became of requests for the model.
#[derive(Clone, Debug, Default)]
pub struct CacheCounts {
    /// By how they were answered.
    pub outcomes: Vec<(&'static str, u64)>,
    /// Those that went to the model because memory could not be asked, by why.
    pub failures: Vec<(&'static str, u64)>,
    /// Near misses that a judge was asked about, by what came of it.
    pub judged: Vec<(&'static str, u64)>,
    /// Different requests that are on their way.
    pub n_on_their_way: u64,
    /// Readings of the load of models, by what came of them.
    pub load_reads: Vec<(&'static str, u64)>,
}

/// All that is counted and timed.
#[derive(Debug, Default)]
pub struct Metrics {
    requests: Mutex<BTreeMap<(&'static str, &'static str, u16), u64>>,
    /// Those of ways that are not in the list come last.
    latencies: [[Histogram; PLANS.len() + 1]; TenantClass::EVERY.len()],
    stages: [Histogram; Stage::EVERY.len()],
    first_searches: Histogram,
    audit_failures: AtomicU64,
}

#[derive(Debug, Default)]
struct Histogram {
    /// How many lie in each bucket and beyond the last; not added up.
    counts: [AtomicU64; ENDS_S.len() + 1],
    sum_ns: AtomicU64,
}

impl Metrics {
    /// Counts an answered request.
    pub fn observe(&self, seen: &Observed) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry((seen.method, seen.route, seen.status)).or_default() += 1;
        drop(requests);
        let plan = PLANS.iter().position(|&plan| plan == seen.plan).unwrap_or(PLANS.len());
        self.latencies[seen.class as usize][plan].add(seen.seconds);
        let Some(taken) = &seen.taken else { return };
        taken.stages().for_each(|(stage, seconds)| self.stages[stage as usize].add(seconds));
        taken.first_search_s.iter().for_each(|&seconds| self.first_searches.add(seconds));
    }

    /// Counts a line that could not be added to the audit file.
    pub fn count_audit_failure(&self) {
        self.audit_failures.fetch_add(1, Ordering::Relaxed);
    }

    /// Everything, as text.
    pub fn text(&self, gauges: &Gauges) -> String {
        let mut text = Text::default();
        let written = self.write(&mut text, gauges);
        written.expect("a string takes any text");
        text.0
    }

    fn write(&self, text: &mut Text, gauges: &Gauges) -> fmt::Result {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone();
        text.head("requests_total", "counter", "Answered requests, by route and status.")?;
        for ((method, route, status), n) in requests {
            let status = status.to_string();
            let labels = [("method", method), ("route", route), ("status", &status)];
            text.sample("requests_total", &labels, n)?;
        }
        text.head("plans_total", "counter", "Answered requests, by the way that was taken.")?;
        for (plan, name) in plan_names() {
            let n: u64 = self.latencies.iter().map(|class| class[plan].n()).sum();
            text.sample("plans_total", &[("plan", name)], n)?;
        }
        let about = "Seconds from the end of the headers to the answer, by way and size of tenant.";
        text.head("request_seconds", "histogram", about)?;
        for (class, histograms) in TenantClass::EVERY.iter().zip(&self.latencies) {
            for (plan, name) in plan_names() {
                let labels = [("plan", name), ("tenants", class.name())];
                text.histogram("request_seconds", &labels, &histograms[plan])?;
            }
        }
        let about = "Seconds of a request by stage, where a worker worked on it.";
        text.head("stage_seconds", "histogram", about)?;
        for stage in Stage::EVERY {
            let labels = [("stage", stage.name())];
            text.histogram("stage_seconds", &labels, &self.stages[stage as usize])?;
        }
        let about = "Seconds from the end of the headers to the start of the first scan or walk.";
        text.head("tklqt_seconds", "histogram", about)?;
        text.histogram("tklqt_seconds", &[], &self.first_searches)?;
        let failures = self.audit_failures.load(Ordering::Relaxed);
        let about = "Lines that could not be added to the audit file.";
        text.single("audit_failures_total", "counter", about, failures)?;
        gauges.write(text)
    }
}

fn plan_names() -> impl Iterator<Item = (usize, &'static str)> {
    let known = PLANS.iter().map(|plan| plan.map_or("none", Way::name));
    known.chain(["other"]).enumerate()
}

impl Gauges {
    fn write(&self, text: &mut Text) -> fmt::Result {
        if let Some(load) = self.load {
            let (waiting, running) = (load.n_waiting as u64, load.n_running as u64);
            text.single("queue_depth", "gauge", "Requests that wait for a worker.", waiting)?;
            text.single("workers_busy", "gauge", "Workers that are taken.", running)?;
            let users = load.n_users as u64;
            text.single("users_active", "gauge", "Tenants and keys that want something.", users)?;
        }
        text.single("panics_total", "counter", "Contained panics: bugs.", self.n_panics)?;
        text.single("collections", "gauge", "Collections.", self.n_collections)?;
        let about = "Bytes in memory or mapped, by part, of all collections together.";
        text.head("memory_bytes", "gauge", about)?;
        for (part, n_bytes) in &self.memory {
            text.sample("memory_bytes", &[("part", part)], *n_bytes)?;
        }
        self.write_recall(text)?;
        self.cache.write(text)?;
        let about = "1 if something is worse than it should be.";
        text.single("degraded", "gauge", about, u64::from(self.is_degraded))
    }
}

impl Gauges {
    fn write_recall(&self, text: &mut Text) -> fmt::Result {
        let RecallFacts { n_checked, n_wanted, n_found, n_left_out } = self.recall;
        let about = "Searches that were to be asked again, exactly, by what came of it.";
        text.head("recall_searches_total", "counter", about)?;
        for (outcome, n) in [("checked", n_checked), ("left_out", n_left_out)] {
            text.sample("recall_searches_total", &[("outcome", outcome)], n)?;
        }
        let about = "Nearest points of those that were checked, by whether they had been found.";
        text.head("recall_points_total", "counter", about)?;
        for (outcome, n) in [("found", n_found), ("missed", n_wanted - n_found)] {
            text.sample("recall_points_total", &[("outcome", outcome)], n)?;
        }
        Ok(())
    }
}

impl CacheCounts {
    fn write(&self, text: &mut Text) -> fmt::Result {
        let about = "Requests for the model, by how they were answered.";
        text.head("cache_requests_total", "counter", about)?;
        for (outcome, n) in &self.outcomes {
            text.sample("cache_requests_total", &[("outcome", outcome)], *n)?;
        }
        let about = "Requests that went to the model because memory could not be asked, by why.";
        text.head("cache_fail_open_total", "counter", about)?;
        for (why, n) in &self.failures {
            text.sample("cache_fail_open_total", &[("reason", why)], *n)?;
        }
        let about = "Near misses that a judge was asked about, by what came of it.";
        text.head("cache_judged_total", "counter", about)?;
        for (word, n) in &self.judged {
            text.sample("cache_judged_total", &[("opinion", word)], *n)?;
        }
        let about = "Readings of the models' load, by what came of them.";
        text.head("cache_load_reads_total", "counter", about)?;
        for (word, n) in &self.load_reads {
            text.sample("cache_load_reads_total", &[("outcome", word)], *n)?;
        }
        let about = "Different requests that the model is asked at the moment.";
        text.single("cache_flights", "gauge", about, self.n_on_their_way)
    }
}

impl Histogram {
    fn add(&self, seconds: f64) {
        let bucket = ENDS_S.iter().position(|&end| seconds <= end).unwrap_or(ENDS_S.len());
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_ns.fetch_add((seconds * 1e9) as u64, Ordering::Relaxed);
    }

    fn n(&self) -> u64 {
        self.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

/// Text in the form that Prometheus reads.
#[derive(Default)]
struct Text(String);

impl Text {
    fn head(&mut self, name: &str, kind: &str, about: &str) -> fmt::Result {
        writeln!(self.0, "# HELP nearkin_{name} {about}")?;
        writeln!(self.0, "# TYPE nearkin_{name} {kind}")
    }

    fn sample(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        value: impl fmt::Display,
    ) -> fmt::Result {
        write!(self.0, "nearkin_{name}")?;
        for (i, (label, value)) in labels.iter().enumerate() {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            write!(self.0, "{}{label}=\"{value}\"", if i == 0 { '{' } else { ',' })?;
        }
        writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" })
    }

    fn single(&mut self, name: &str, kind: &str, about: &str, value: u64) -> fmt::Result {
        self.head(name, kind, about)?;
        self.sample(name, &[], value)
    }

    /// A histogram; nothing for one that has nothing, of which there would be many.
    fn histogram(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        histogram: &Histogram,
    ) -> fmt::Result {
        // What is counted meanwhile is in the next: the sum is that of the buckets in any case.
        let counts = histogram.counts.each_ref().map(|count| count.load(Ordering::Relaxed));
        let sum_s = histogram.sum_ns.load(Ordering::Relaxed) as f64 / 1e9;
        let mut so_far = 0;
        if counts.iter().all(|&count| count == 0) {
            return Ok(());
        }
        let bucket = format!("{name}_bucket");
        for (i, count) in counts.iter().enumerate() {
            so_far += count;
            let end = ENDS_S.get(i).map_or("+Inf".to_owned(), f64::to_string);
            self.sample(&bucket, &[labels, &[("le", &*end)][..]].concat(), so_far)?;
        }
        self.sample(&format!("{name}_sum"), labels, sum_s)?;
        self.sample(&format!("{name}_count"), labels, so_far)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(seconds: f64, class: TenantClass, plan: Option<Way>) -> Observed {
        let route = "/collections/{collection}/points/search";
        Observed { method: "POST", route, status: 200, seconds, class, plan, taken: None }
    }

    /// Samples by name and labels, read as strictly as the form is defined.
    fn samples(text: &str) -> BTreeMap<String, f64> {
        let mut kinds = BTreeMap::new();
        let mut samples = BTreeMap::new();
        for line in text.lines() {
            if let Some(about) = line.strip_prefix("# ") {
                let [what, name, rest] = about.splitn(3, ' ').collect::<Vec<_>>()[..] else {
                    panic!("{line}")
                };
                if what == "TYPE" {
                    assert!(kinds.insert(name.to_owned(), rest.to_owned()).is_none(), "{line}");
                }
                continue;
            }
            let (series, value) = line.rsplit_once(' ').unwrap();
            let name = series.split('{').next().unwrap();
            let family = ["_bucket", "_sum", "_count"]
                .iter()
                .filter_map(|end| name.strip_suffix(end))
                .find(|family| kinds.get(*family).is_some_and(|kind| kind == "histogram"))
                .unwrap_or(name);
            assert!(kinds.contains_key(family), "{line}: no type before it");
            assert_eq!(kinds[family] == "counter", family.ends_with("_total"), "{line}");
            let value: f64 = value.parse().unwrap();
            assert!(samples.insert(series.to_owned(), value).is_none(), "{line}: twice");
        }
        samples
    }

    #[test]
    fn latencies_are_in_buckets_that_add_up() {
        let metrics = Metrics::default();
        let (small, graph) = (TenantClass::new(Some(10)), Some(Way::Graph));
        for seconds in [0.00005, 0.0001, 0.0003, 0.003, 99.0] {
            metrics.observe(&seen(seconds, small, graph));
        }
        metrics.observe(&seen(0.5, TenantClass::new(None), None));
        let samples = samples(&metrics.text(&Gauges::default()));
        let bucket = |end: &str| {
            samples[&format!(
                "nearkin_request_seconds_bucket{{plan=\"graph\",tenants=\"small\",le=\"{end}\"}}"
            )]
        };
        let ends = ["0.0001", "0.0002", "0.0005", "0.002", "0.005", "10", "+Inf"];
        assert_eq!(ends.map(bucket), [2.0, 2.0, 3.0, 3.0, 4.0, 4.0, 5.0]);
        let of = |what: &str| {
            samples[&format!("nearkin_request_seconds_{what}{{plan=\"graph\",tenants=\"small\"}}")]
        };
        assert_eq!(of("count"), 5.0);
        assert!((of("sum") - 99.00345).abs() < 1e-6);
        assert_eq!(samples["nearkin_plans_total{plan=\"graph\"}"], 5.0);
        assert_eq!(samples["nearkin_plans_total{plan=\"none\"}"], 1.0);
        assert_eq!(samples["nearkin_plans_total{plan=\"tree\"}"], 0.0);
    }

    #[test]
    fn every_way_of_the_planner_is_counted_as_itself() {
        let metrics = Metrics::default();
        for plan in PLANS {
            metrics.observe(&seen(0.001, TenantClass::All, plan));
        }
        let samples = samples(&metrics.text(&Gauges::default()));
        let counts: Vec<f64> = samples
            .iter()
            .filter(|(series, _)| series.starts_with("nearkin_plans_total"))
            .map(|(_, &n)| n)
            .collect();
        assert_eq!(counts.len(), PLANS.len() + 1);
        assert_eq!(samples["nearkin_plans_total{plan=\"other\"}"], 0.0);
        assert_eq!(counts.iter().sum::<f64>(), PLANS.len() as f64);
        assert!(counts.iter().all(|&n| n <= 1.0), "{counts:?}");
    }

    #[test]
    fn stages_are_told_by_name_and_only_those_that_there_were() {
        let metrics = Metrics::default();
        let mut taken = Taken::default();
        taken.add(Stage::Parse, 0.25);
        taken.first_search_s = Some(0.0003);
        taken.add(Stage::Search, 0.5);
        let observed = Observed { taken: Some(taken), ..seen(1.0, TenantClass::All, None) };
        metrics.observe(&observed);
        metrics.observe(&observed);
        metrics.observe(&seen(1.0, TenantClass::All, None));
        let samples = samples(&metrics.text(&Gauges::default()));
        let sum =
            |stage: &str| samples.get(&format!("nearkin_stage_seconds_sum{{stage=\"{stage}\"}}"));
        assert_eq!((sum("parse"), sum("search"), sum("queue")), (Some(&0.5), Some(&1.0), None));
        assert_eq!(samples["nearkin_tklqt_seconds_count"], 2.0);
        assert_eq!(samples["nearkin_tklqt_seconds_bucket{le=\"0.0002\"}"], 0.0);
        assert_eq!(samples["nearkin_tklqt_seconds_bucket{le=\"0.0005\"}"], 2.0);
    }

    #[test]
    fn requests_are_counted_by_route_and_status_and_tenants_are_not_named() {
        let metrics = Metrics::default();
        let ok = seen(0.001, TenantClass::new(Some(5_000)), None);
        metrics.observe(&ok);
        metrics.observe(&ok);
        metrics.observe(&Observed { status: 429, ..ok });
        let load = Load { n_waiting: 3, n_running: 2, n_users: 4 };
        let memory = vec![("rows", 1 << 20), ("odd \"part\"\\", 7)];
        let cache = CacheCounts {
            outcomes: vec![("HIT", 4), ("MISS", 0)],
            failures: vec![("embedder_down", 2)],
            judged: vec![("same", 5)],
            n_on_their_way: 3,
            load_reads: vec![("read", 6)],
        };
        let gauges = Gauges {
            load: Some(load),
            n_collections: 9,
            memory,
            is_degraded: true,
            n_panics: 1,
            recall: RecallFacts { n_checked: 5, n_wanted: 50, n_found: 48, n_left_out: 2 },
            cache,
        };
        let text = metrics.text(&gauges);
        let samples = samples(&text);
        let of = |status: u16| {
            let route = ok.route;
            samples[&format!(
                "nearkin_requests_total{{method=\"POST\",route=\"{route}\",status=\"{status}\"}}"
            )]
        };
        assert_eq!((of(200), of(429)), (2.0, 1.0));
        let named = [
            ("nearkin_queue_depth", 3.0),
            ("nearkin_workers_busy", 2.0),
            ("nearkin_users_active", 4.0),
            ("nearkin_collections", 9.0),
            ("nearkin_cache_requests_total{outcome=\"HIT\"}", 4.0),
            ("nearkin_cache_fail_open_total{reason=\"embedder_down\"}", 2.0),
            ("nearkin_cache_flights", 3.0),
            ("nearkin_cache_load_reads_total{outcome=\"read\"}", 6.0),
            ("nearkin_degraded", 1.0),
            ("nearkin_panics_total", 1.0),
            ("nearkin_recall_searches_total{outcome=\"checked\"}", 5.0),
            ("nearkin_recall_searches_total{outcome=\"left_out\"}", 2.0),
            ("nearkin_recall_points_total{outcome=\"found\"}", 48.0),
            ("nearkin_recall_points_total{outcome=\"missed\"}", 2.0),
            ("nearkin_audit_failures_total", 0.0),
            ("nearkin_memory_bytes{part=\"rows\"}", 1048576.0),
            ("nearkin_memory_bytes{part=\"odd \\\"part\\\"\\\\\"}", 7.0),
        ];
        for (series, value) in named {
            assert_eq!(samples[series], value, "{series}");
        }
    }

    #[test]
    fn classes_are_by_points() {
        let classes = [None, Some(0), Some(999), Some(1_000), Some(99_999), Some(100_000)];
        assert_eq!(
            classes.map(TenantClass::new).map(TenantClass::name),
            ["all", "small", "small", "medium", "medium", "large"]
        );
    }
}
