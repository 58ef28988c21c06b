//! Policies from TOML: every key is known, in its range, and at peace with the others.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::{Table, Value};

use crate::cache::identity::Scope;
use crate::cache::policy::{
    Adapt, CollectionPolicy, LoadSource, Mode, Policies, Policy, Quota, Room,
};
use crate::core::limits;
use crate::error::{Error, ErrorKind, Result};

/// The name under which categories without a policy are counted.
const RESERVED: &str = "default";

/// The file of policies.
pub(super) fn policies(text: &str, file: &str) -> Result<Policies> {
    let table: Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map_or(0, |span| text[..span.start].matches('\n').count() + 1);
        refused(file, &format!("line {line}"), "TOML", error.message())
    })?;
    let mut top = Keys { file, place: String::new(), table, known: Vec::new() };
    let room = top.table("cache")?.map_or(Ok(Room::default()), room)?;
    let default = match top.table("default")? {
        Some(keys) => policy(keys, &Policy::default())?,
        None => Policy::default(),
    };
    let categories = named(&mut top, "category", |keys| policy(keys, &default))?;
    let collections = named(&mut top, "collection", collection)?;
    let load = top.table("load")?.map(load).transpose()?;
    top.end()?;
    Ok(Policies { room, default, categories, collections, load })
}

/// The tables in the table of that key, by name.
fn named<T>(
    top: &mut Keys<'_>,
    key: &'static str,
    read: impl Fn(Keys<'_>) -> Result<T>,
) -> Result<BTreeMap<String, T>> {
    let Some(all) = top.table(key)? else { return Ok(BTreeMap::new()) };
    let mut found = BTreeMap::new();
    for (name, value) in all.table {
        let place = format!("{key}.{name}");
        if name.len() > limits::NAME_BYTES {
            let expected = format!("a name of at most {} bytes", limits::NAME_BYTES);
            return Err(refused(all.file, &place, &expected, &format!("{} bytes", name.len())));
        }
        if name == RESERVED {
            return Err(refused(
                all.file,
                &place,
                "another name: [default] is that policy",
                RESERVED,
            ));
        }
        let Value::Table(table) = value else {
            return Err(refused(all.file, &place, "a table", &shown(&value)));
        };
        found.insert(name, read(Keys { file: all.file, place, table, known: Vec::new() })?);
    }
    Ok(found)
}

fn room(mut keys: Keys<'_>) -> Result<Room> {
    let mut room = Room::default();
    keys.whole("entries", 1, &mut room.entries)?;
    keys.whole("bytes", 1, &mut room.bytes)?;
    keys.whole("tenant_entries", 1, &mut room.tenant_entries)?;
    keys.whole("tenant_bytes", 1, &mut room.tenant_bytes)?;
    keys.end()?;
    Ok(room)
}

fn policy(mut keys: Keys<'_>, base: &Policy) -> Result<Policy> {
    let mut policy = base.clone();
    keys.word("mode", &Mode::ALL.map(|mode| (mode.word(), mode)), &mut policy.mode)?;
    keys.number("threshold", -1.0..=1.0, &mut policy.threshold)?;
    keys.number("margin", 0.0..=2.0, &mut policy.margin)?;
    keys.flag("guard", &mut policy.guard)?;
    let mut ttl_s = policy.ttl.as_secs();
    keys.whole("ttl_s", 1, &mut ttl_s)?;
    policy.ttl = Duration::from_secs(ttl_s);
    keys.word("scope", &Scope::ALL.map(|scope| (scope.word(), scope)), &mut policy.scope)?;
    keys.flag("store", &mut policy.store)?;
    keys.flag("doorkeeper", &mut policy.doorkeeper)?;
    let mut min_words = policy.min_words as u64;
    keys.whole("min_words", 0, &mut min_words)?;
    policy.min_words = min_words as usize;
    if let Some(judge) = keys.text("judge")? {
        policy.judge = (!judge.is_empty()).then_some(judge);
    }
    if let Some(quota) = keys.table("quota")? {
        policy.quota = self::quota(quota, policy.quota)?;
    }
    if let Some(verified) = keys.table_or_off("verified")? {
        policy.verified = verified.map(delta).transpose()?;
    }
    if let Some(adapt) = keys.table_or_off("adapt")? {
        policy.adapt = adapt.map(|keys| self::adapt(keys, policy.threshold)).transpose()?;
    }
    let (file, place) = (keys.file, keys.place.clone());
    keys.end()?;
    at_peace(&policy, file, &place)?;
    Ok(policy)
}

fn quota(mut keys: Keys<'_>, base: Quota) -> Result<Quota> {
    let mut quota = base;
    keys.whole("floor_entries", 0, &mut quota.floor_entries)?;
    keys.whole("cap_entries", 1, &mut quota.cap_entries)?;
    keys.whole("floor_bytes", 0, &mut quota.floor_bytes)?;
    keys.whole("cap_bytes", 1, &mut quota.cap_bytes)?;
    for (floor, cap, of) in [
        (quota.floor_entries, quota.cap_entries, "entries"),
        (quota.floor_bytes, quota.cap_bytes, "bytes"),
    ] {
        if floor > cap {
            let key = format!("{}.floor_{of}", keys.place);
            return Err(refused(
                keys.file,
                &key,
                &format!("at most cap_{of}, {cap}"),
                &floor.to_string(),
            ));
        }
    }
    keys.end()?;
    Ok(quota)
}

fn delta(mut keys: Keys<'_>) -> Result<f64> {
    let mut delta = 0.01;
    keys.number("delta", 0.0001..=0.5, &mut delta)?;
    keys.end()?;
    Ok(f64::from(delta))
}

fn adapt(mut keys: Keys<'_>, threshold: f32) -> Result<Adapt> {
    let mut adapt = Adapt { delta_max: 0.03, ttl_max: 2.0, floor: -2.0 };
    keys.number("delta_max", 0.0..=0.1, &mut adapt.delta_max)?;
    keys.number("ttl_max", 1.0..=10.0, &mut adapt.ttl_max)?;
    keys.number("floor", -1.0..=1.0, &mut adapt.floor)?;
    if adapt.floor == -2.0 {
        adapt.floor = threshold - adapt.delta_max;
    }
    if adapt.floor > threshold {
        let key = format!("{}.floor", keys.place);
        let expected = format!("at most the threshold, {threshold}");
        return Err(refused(keys.file, &key, &expected, &adapt.floor.to_string()));
    }
    keys.end()?;
    Ok(adapt)
}

fn collection(mut keys: Keys<'_>) -> Result<CollectionPolicy> {
    let (mut ttl_s, mut dedup) = (0, f32::NAN);
    keys.whole("ttl_s", 1, &mut ttl_s)?;
    keys.number("dedup", -1.0..=1.0, &mut dedup)?;
    let partition = keys.text("partition")?;
    keys.end()?;
    Ok(CollectionPolicy {
        ttl: (ttl_s > 0).then(|| Duration::from_secs(ttl_s)),
        dedup: (!dedup.is_nan()).then_some(dedup),
        partition,
    })
}

fn load(mut keys: Keys<'_>) -> Result<LoadSource> {
    let Some(url) = keys.text("metrics")? else {
        return Err(refused(keys.file, "load.metrics", "the URL of metrics of vLLM", "none"));
    };
    let (mut period_s, mut requests) = (5.0, 256);
    keys.number("period_s", 0.1..=60.0, &mut period_s)?;
    keys.whole("requests", 1, &mut requests)?;
    let requests = u32::try_from(requests).map_err(|_| {
        let expected = format!("at most {}", u32::MAX);
        refused(keys.file, "load.requests", &expected, &requests.to_string())
    })?;
    keys.end()?;
    Ok(LoadSource { url, period: Duration::from_secs_f32(period_s), requests })
}

/// Fails where two keys contradict each other.
fn at_peace(policy: &Policy, file: &str, place: &str) -> Result<()> {
    let against = |key: &str, expected: &str, received: &str| {
        Err(refused(file, &format!("{place}.{key}"), expected, received))
    };
    if policy.threshold - policy.margin < -1.0 {
        return against(
            "margin",
            "one that keeps threshold - margin at -1 or more",
            &policy.margin.to_string(),
        );
    }
    if policy.verified.is_some() && !policy.mode.is_semantic() {
        return against("verified", "a mode with semantic", policy.mode.word());
    }
    if policy.judge.is_some() && policy.margin == 0.0 {
        return against("judge", "a margin above 0, in which it is asked", "a margin of 0");
    }
    if policy.adapt.is_some() && policy.scope == Scope::Shared {
        // Whoever makes load could loosen what others are answered.
        return against("adapt", "scope user or tenant", "scope shared");
    }
    if policy.adapt.is_some_and(|adapt| adapt.floor > policy.threshold) {
        return against("adapt", "a floor of at most the threshold", "one above it");
    }
    Ok(())
}

/// The keys of a table; each is taken once, and what is left is unknown.
struct Keys<'a> {
    file: &'a str,
    place: String,
    table: Table,
    known: Vec<&'static str>,
}

impl<'a> Keys<'a> {
    fn take(&mut self, key: &'static str) -> Option<Value> {
        self.known.push(key);
        self.table.remove(key)
    }

    fn key(&self, key: &str) -> String {
        if self.place.is_empty() { key.to_owned() } else { format!("{}.{key}", self.place) }
    }

    fn wrong<T>(&self, key: &str, expected: &str, value: &Value) -> Result<T> {
        Err(refused(self.file, &self.key(key), expected, &shown(value)))
    }

    fn number(
        &mut self,
        key: &'static str,
        range: RangeInclusive<f32>,
        to: &mut f32,
    ) -> Result<()> {
        let Some(value) = self.take(key) else { return Ok(()) };
        let number = match value {
            Value::Float(number) => number as f32,
            Value::Integer(number) => number as f32,
            _ => f32::NAN,
        };
        if !range.contains(&number) {
            let expected = format!("a number from {} to {}", range.start(), range.end());
            return self.wrong(key, &expected, &value);
        }
        *to = number;
        Ok(())
    }

    fn whole(&mut self, key: &'static str, least: u64, to: &mut u64) -> Result<()> {
        let Some(value) = self.take(key) else { return Ok(()) };
        match value {
            Value::Integer(number) if u64::try_from(number).is_ok_and(|n| n >= least) => {
                *to = number as u64;
                Ok(())
            }
            _ => self.wrong(key, &format!("a whole number from {least} on"), &value),
        }
    }

    fn flag(&mut self, key: &'static str, to: &mut bool) -> Result<()> {
        match self.take(key) {
            None => Ok(()),
            Some(Value::Boolean(flag)) => {
                *to = flag;
                Ok(())
            }
            Some(value) => self.wrong(key, "true or false", &value),
        }
    }

    fn text(&mut self, key: &'static str) -> Result<Option<String>> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(value) => self.wrong(key, "a text", &value),
        }
    }

    fn word<T: Copy>(&mut self, key: &'static str, all: &[(&str, T)], to: &mut T) -> Result<()> {
        let Some(value) = self.take(key) else { return Ok(()) };
        match all.iter().find(|(word, _)| value.as_str() == Some(word)) {
            Some(&(_, one)) => {
                *to = one;
                Ok(())
            }
            None => {
                let words: Vec<&str> = all.iter().map(|&(word, _)| word).collect();
                self.wrong(key, &format!("one of {}", words.join(", ")), &value)
            }
        }
    }

    fn table(&mut self, key: &'static str) -> Result<Option<Keys<'a>>> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Table(table)) => {
                let place = self.key(key);
                Ok(Some(Keys { file: self.file, place, table, known: Vec::new() }))
            }
            Some(value) => self.wrong(key, "a table", &value),
        }
    }

    /// A table, or `false` for none, which takes away what the default has.
    fn table_or_off(&mut self, key: &'static str) -> Result<Option<Option<Keys<'a>>>> {
        match self.table.get(key) {
            Some(Value::Boolean(false)) => {
                self.take(key);
                Ok(Some(None))
            }
            Some(value) if !value.is_table() => self.wrong(key, "a table or false", &value.clone()),
            _ => Ok(self.table(key)?.map(Some)),
        }
    }

    /// Fails if a key was not asked for.
    fn end(self) -> Result<()> {
        match self.table.keys().next() {
            None => Ok(()),
            Some(key) => {
                let expected = format!("one of {}", self.known.join(", "));
                let place = if self.place.is_empty() { "the file" } else { &self.place };
                Err(refused(self.file, place, &expected, &format!("unknown key {key:?}")))
            }
        }
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{text:?}"),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Boolean(flag) => flag.to_string(),
        Value::Datetime(_) => "a date".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Table(_) => "a table".to_owned(),
    }
}

fn refused(file: &str, key: &str, expected: &str, received: &str) -> Error {
    let message = format!("{file}: {key}: expected {expected}, received {received}");
    Error::new(ErrorKind::BadInput, "policy", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_category_has_what_the_default_has_but_for_what_it_says() {
        let text = r#"
            [cache]
            entries = 500
            [default]
            threshold = 0.95
            verified = { delta = 0.02 }
            [default.quota]
            floor_entries = 10
            [category.code]
            threshold = 0.9
            adapt = {}
            verified = false
            scope = "user"
            quota = { cap_entries = 20 }
            [collection.lite]
            ttl_s = 60
            partition = "litellm_cache_key"
            [load]
            metrics = "http://m/metrics"
            period_s = 0.5
        "#;
        let policies = policies(text, "p.toml").unwrap();
        let (code, other) = (policies.of("code"), policies.of("faq"));
        assert_eq!(
            (policies.room.entries, other.threshold, other.verified),
            (500, 0.95, Some(0.02f32.into()))
        );
        assert_eq!((code.threshold, code.verified, code.scope), (0.9, None, Scope::User));
        assert_eq!((code.quota.floor_entries, code.quota.cap_entries), (10, 20));
        let adapt = code.adapt.unwrap();
        assert_eq!((adapt.delta_max, adapt.ttl_max), (0.03, 2.0));
        assert!((code.threshold_at(1.0) - 0.87).abs() < 1e-6 && code.life_at(0.5) == 1.5);
        assert_eq!(policies.counted_as("faq"), "default");
        assert_eq!(policies.collections["lite"].ttl, Some(Duration::from_secs(60)));
        let load = policies.load.unwrap();
        assert_eq!((load.period, load.requests), (Duration::from_millis(500), 256));
        assert_eq!(super::policies("", "p.toml").unwrap(), Policies::default());
    }

    #[test]
    fn what_is_wrong_is_named_with_file_key_expected_and_received() {
        for (text, said) in [
            (
                "[default]\nthreshold = 1.5",
                "default.threshold: expected a number from -1 to 1, received 1.5",
            ),
            (
                "[default]\nthreshold = nan",
                "default.threshold: expected a number from -1 to 1, received NaN",
            ),
            ("[default]\nthreshold = \"high\"", "received \"high\""),
            (
                "[category.code]\nttl_s = 0",
                "category.code.ttl_s: expected a whole number from 1 on, received 0",
            ),
            ("[category.code]\nttl_s = -5", "received -5"),
            ("[category.code]\nttl = 5", "category.code: expected one of mode, threshold"),
            ("[category.code]\nttl = 5", "received unknown key \"ttl\""),
            ("[defaults]", "the file: expected one of cache, default, category, collection"),
            ("[category.default]", "category.default: expected another name"),
            ("[category]\ncode = 3", "category.code: expected a table, received 3"),
            (
                "[default]\nmode = \"fuzzy\"",
                "expected one of off, exact, semantic, exact+semantic, received \"fuzzy\"",
            ),
            ("[load]", "load.metrics: expected the URL of metrics of vLLM, received none"),
            (
                "[load]\nmetrics = \"m\"\nperiod_s = 0",
                "load.period_s: expected a number from 0.1 to 60, received 0",
            ),
            (
                "[load]\nmetrics = \"m\"\nrequests = 0",
                "load.requests: expected a whole number from 1 on",
            ),
            ("[load]\nmetrics = \"m\"\nrequests = 4294967296", "expected at most 4294967295"),
            ("[default]\nguard = 1", "default.guard: expected true or false, received 1"),
            (
                "[default.quota]\nfloor_entries = 9\ncap_entries = 8",
                "floor_entries: expected at most cap_entries, 8, received 9",
            ),
            (
                "[default]\nverified = true",
                "default.verified: expected a table or false, received true",
            ),
            (
                "[default]\nverified = { delta = 0.9 }",
                "default.verified.delta: expected a number from 0.0001 to 0.5",
            ),
            (
                "[default]\nmode = \"exact\"\nverified = {}",
                "default.verified: expected a mode with semantic, received exact",
            ),
            (
                "[default]\nscope = \"shared\"\nadapt = {}",
                "default.adapt: expected scope user or tenant, received scope shared",
            ),
            (
                "[default]\nadapt = { floor = 0.95 }",
                "default.adapt.floor: expected at most the threshold, 0.93, received 0.95",
            ),
            (
                "[default]\nmargin = 0\njudge = \"http://j\"",
                "default.judge: expected a margin above 0",
            ),
            ("[default]\n\nx = = 3", "line 3: expected TOML"),
        ] {
            let error = policies(text, "p.toml").unwrap_err();
            assert_eq!(error.code(), "policy");
            assert!(error.to_string().contains("p.toml: "), "{error}");
            assert!(error.to_string().contains(said), "{text}: {error}");
        }
    }
}
