//! Streams of labelled requests through a semantic cache: thresholds by domain beside one for all, and the verified bound.
//!
//! ```sh
//! cargo bench --bench cache_streams -- --data DIR --texts texts.jsonl        # the texts, a line of JSON each
//! cargo bench --bench cache_streams -- --data DIR --embed static --out F.json
//! cargo bench --bench cache_streams -- --data DIR --embed given:rows.npy --out F.json   # a row for each of the texts
//! ```
//!
//! `DIR` has `banking77/{train,test}.csv`, `clinc150/{data_full,domains}.json` and `gptcache-mock/mock_data.json`. Thresholds are
//! calibrated on one half of each set, and what is reported is measured on the other. Intents are drawn by Zipf's law, 8 % of requests
//! repeat one word for word, 3 % are traps (tests/it/fixtures/guard/traps.txt), out-of-scope requests are right for nobody.

#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use nearkin::cache::calibrate::{Choice, Count, Curve, THRESHOLDS, of_stream, threshold};
use nearkin::cache::guard::{Guarded, agrees};
use nearkin::cache::interval::interval;
use nearkin::cache::verified::{Decision, Estimate};
use nearkin::core::mix::stream;
use nearkin::embed::{self, normalise};
use serde_json::{Value, json};

const TARGET: f64 = 0.01;
const CONFIDENCE: f64 = 0.95;
const SEEDS: u64 = 5;
const MARGIN: f32 = 0.03;
const REPEATS: f64 = 0.08;
const TRAPS: f64 = 0.03;
const ZIPF: f64 = 1.0;
const FLIPS: &str = include_str!("../tests/it/fixtures/guard/traps.txt");

#[derive(Clone)]
struct Text {
    text: String,
    /// Unique for what is right for nobody else.
    intent: u32,
    domain: String,
    is_train: bool,
}

/// A stream: numbers of texts.
type Stream = Vec<usize>;

fn even(seed: u64, n: u64) -> f64 {
    (stream(seed, n) >> 11) as f64 / (1u64 << 53) as f64
}

/// All texts: those of the sets, then both sides of each trap, then the paraphrases of the mock set.
struct Corpus {
    texts: Vec<Text>,
    traps: Vec<[usize; 2]>,
    mock: Vec<[usize; 2]>,
}

fn corpus(data: &Path) -> Corpus {
    let mut intents: HashMap<String, u32> = HashMap::new();
    let mut texts = Vec::new();
    let mut add = |text: String, intent: Option<&str>, domain: &str| {
        let name =
            intent.map_or(format!("lone {}", texts.len()), |name| format!("{domain} {name}"));
        let next = intents.len() as u32;
        let intent = *intents.entry(name).or_insert(next);
        // Halves of each set, by chance: a set's own halves were gathered differently.
        let is_train = even(42, texts.len() as u64) < 0.5;
        texts.push(Text { text, intent, domain: domain.to_owned(), is_train });
        texts.len() - 1
    };
    for half in ["train", "test"] {
        let file = fs::read_to_string(data.join(format!("banking77/{half}.csv"))).unwrap();
        for (text, intent) in csv(&file).into_iter().skip(1) {
            add(text, Some(&intent), "banking77");
        }
    }
    let json = |name: &str| -> Value {
        serde_json::from_str(&fs::read_to_string(data.join(name)).unwrap()).unwrap()
    };
    let domains = json("clinc150/domains.json");
    let domains = domains.as_object().unwrap();
    let domain_of: HashMap<&str, &str> = domains
        .iter()
        .flat_map(|(domain, list)| {
            list.as_array().unwrap().iter().map(move |x| (x.as_str().unwrap(), &**domain))
        })
        .collect();
    let names: Vec<&String> = domains.keys().collect();
    let full = json("clinc150/data_full.json");
    for rows in full.as_object().unwrap().values() {
        for (i, row) in rows.as_array().unwrap().iter().enumerate() {
            let (text, intent) = (row[0].as_str().unwrap(), row[1].as_str().unwrap());
            let lone = intent == "oos";
            // What is out of scope comes in every domain.
            let domain = if lone { names[i % names.len()] } else { domain_of[intent] };
            add(text.into(), (!lone).then_some(intent), domain);
        }
    }
    let mut pair = |a: &str, b: &str, intents: [Option<&str>; 2], domain: &str| {
        [add(a.into(), intents[0], domain), add(b.into(), intents[1], domain)]
    };
    let traps = FLIPS.lines().map(|line| {
        let parts: Vec<&str> = line.split(" | ").collect();
        pair(parts[1], parts[2], [None, None], "trap")
    });
    let traps = traps.collect();
    let mock = json("gptcache-mock/mock_data.json");
    let rows = mock.as_array().unwrap().iter().enumerate().map(|(i, row)| {
        let name = i.to_string();
        let of = |key: &str| row[key].as_str().unwrap();
        pair(of("origin"), of("similar"), [Some(&name), Some(&name)], "mock")
    });
    let mock = rows.collect();
    Corpus { texts, traps, mock }
}

/// Two columns, quoted where they hold commas or ends of lines.
fn csv(text: &str) -> Vec<(String, String)> {
    let (mut rows, mut fields, mut field, mut quoted) =
        (Vec::new(), Vec::new(), String::new(), false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => field.push(chars.next().unwrap()),
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            '\n' if !quoted => {
                fields.push(std::mem::take(&mut field));
                rows.push((fields[0].trim().to_owned(), fields[1].trim().to_owned()));
                fields.clear();
            }
            c => field.push(c),
        }
    }
    rows
}

/// `n` texts of one half of a domain, with traps among them.
fn drawn(corpus: &Corpus, domain: &str, is_train: bool, n: usize, seed: u64) -> Stream {
    let mut by_intent: HashMap<u32, Vec<usize>> = HashMap::new();
    for (i, text) in corpus.texts.iter().enumerate() {
        if text.domain == domain && text.is_train == is_train {
            by_intent.entry(text.intent).or_default().push(i);
        }
    }
    let mut intents: Vec<Vec<usize>> = by_intent.into_values().collect();
    intents.sort();
    let lone: Vec<usize> =
        intents.iter().filter(|rows| rows.len() == 1).map(|rows| rows[0]).collect();
    intents.retain(|rows| rows.len() > 1);
    let mut draws = 0;
    let mut next = || {
        draws += 1;
        even(seed, draws)
    };
    shuffled(&mut intents, &mut next);
    intents.iter_mut().for_each(|rows| shuffled(rows, &mut next));
    let weights: Vec<f64> = (1..=intents.len()).map(|rank| (rank as f64).powf(-ZIPF)).collect();
    let mut taken = vec![0; intents.len()];
    let (mut stream, mut n_lone, mut n_traps) = (Stream::new(), 0, (next() * 300.0) as usize);
    while stream.len() < n {
        let kind = next();
        let row = if kind < REPEATS && !stream.is_empty() {
            stream[(next() * stream.len() as f64) as usize]
        } else if kind < REPEATS + TRAPS {
            n_traps += 1;
            corpus.traps[n_traps / 2 % corpus.traps.len()][n_traps % 2]
        } else if kind < REPEATS + TRAPS + 0.05 && n_lone < lone.len() {
            n_lone += 1;
            lone[n_lone - 1]
        } else {
            // No text comes twice but by the share of repeats: an intent of which all came is drawn no more.
            let left =
                |rank: usize| if taken[rank] < intents[rank].len() { weights[rank] } else { 0.0 };
            let sum: f64 = (0..intents.len()).map(left).sum();
            assert!(sum > 0.0, "{domain}: fewer than {n} texts");
            let mut at = next() * sum;
            let rank = (0..intents.len()).find(|&rank| {
                at -= left(rank);
                at < 0.0
            });
            let rank = rank.unwrap_or(0);
            taken[rank] += 1;
            intents[rank][taken[rank] - 1]
        };
        stream.push(row);
    }
    stream
}

fn shuffled<T>(all: &mut [T], next: &mut dyn FnMut() -> f64) {
    for i in (1..all.len()).rev() {
        all.swap(i, (next() * (i + 1) as f64) as usize);
    }
}

struct Rows {
    values: Vec<f32>,
    dim: usize,
}

impl Rows {
    fn row(&self, i: usize) -> &[f32] {
        &self.values[i * self.dim..(i + 1) * self.dim]
    }

    fn cosine(&self, a: usize, b: usize) -> f32 {
        self.row(a).iter().zip(self.row(b)).map(|(x, y)| x * y).sum()
    }
}

fn rows(choice: &str, texts: &[Text]) -> Rows {
    let choice: embed::Choice = choice.parse().unwrap();
    if let embed::Choice::File(path) = &choice {
        let file = embed::given::NpyFile::open(path).unwrap();
        assert_eq!(file.n_rows(), texts.len(), "a row for each text");
        let dim = file.dim();
        let mut values = vec![0.0; texts.len() * dim];
        for (i, row) in values.chunks_mut(dim).enumerate() {
            file.row(i, row).unwrap();
            normalise(row);
        }
        return Rows { values, dim };
    }
    let embedder = embed::open(&choice, 1).unwrap().unwrap();
    let dim = embedder.dim();
    let mut values = vec![0.0; texts.len() * dim];
    for (part, out) in texts.chunks(256).zip(values.chunks_mut(256 * dim)) {
        let batch: Vec<&str> = part.iter().map(|text| &*text.text).collect();
        let rows = embedder.embed(&batch).unwrap();
        out.chunks_mut(dim).enumerate().for_each(|(i, row)| rows.widen(i, row));
    }
    Rows { values, dim }
}

fn curve(corpus: &Corpus, rows: &Rows, stream: &[usize], guard: bool) -> Curve {
    let values: Vec<f32> = stream.iter().flat_map(|&i| rows.row(i).iter().copied()).collect();
    let intents: Vec<Option<u32>> = stream.iter().map(|&i| Some(corpus.texts[i].intent)).collect();
    let may = |a: usize, b: usize| {
        let of = |i: usize| &*corpus.texts[stream[i]].text;
        !guard || agrees(of(a), of(b)) == Guarded::Same
    };
    of_stream(&values, rows.dim, &intents, &may)
}

/// One cache with a threshold, and the bound for entries that were observed.
fn verified(
    corpus: &Corpus,
    rows: &Rows,
    stream: &[usize],
    least: f32,
    delta: f64,
    seed: u64,
) -> Count {
    let mut stored: Vec<(usize, Estimate)> = Vec::new();
    let mut count = Count::default();
    for (n, &asked) in (0..).zip(stream) {
        let near = (0..stored.len())
            .map(|i| (i, rows.cosine(stored[i].0, asked)))
            .reduce(|a, b| if b.1 > a.1 { b } else { a });
        let text = |i: usize| &*corpus.texts[i].text;
        let near = near.filter(|&(i, s)| {
            s >= least - MARGIN && agrees(text(stored[i].0), text(asked)) == Guarded::Same
        });
        let Some((i, s)) = near else {
            stored.push((asked, Estimate::new()));
            continue;
        };
        let is_right = corpus.texts[stored[i].0].intent == corpus.texts[asked].intent;
        let known = stored[i].1.len() >= 4;
        let serves = match known {
            true => stored[i].1.decide(s, delta, even(seed, n)) == Decision::Serve,
            false => s >= least,
        };
        if serves || text(stored[i].0) == text(asked) {
            count.hits += 1;
            count.errors += u64::from(!is_right);
            continue;
        }
        stored[i].1.observe(s, is_right);
        if !is_right {
            stored.push((asked, Estimate::new()));
        }
    }
    count
}

fn shares(count: Count, n: u64) -> Value {
    let (low, high) = interval(count.errors, n, CONFIDENCE);
    json!({
        "requests": n, "hits": count.hits, "errors": count.errors,
        "hit_rate": count.hits as f64 / n as f64,
        "error_per_request": count.errors as f64 / n as f64,
        "error_per_request_interval": [low, high],
        "error_per_hit": count.errors as f64 / count.hits.max(1) as f64,
    })
}

fn add(to: &mut Count, count: Count) {
    to.hits += count.hits;
    to.errors += count.errors;
}

/// Area under the curve of same against different, and precision by threshold.
fn quality(pairs: &[(f32, bool)]) -> Value {
    let mut sorted = pairs.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut different, mut below) = (0u64, 0u64);
    for (_, same) in &sorted {
        match same {
            true => below += different,
            false => different += 1,
        }
    }
    let same = sorted.len() as u64 - different;
    let at = [0.75f32, 0.8, 0.85, 0.9, 0.95].map(|t| {
        let hits = sorted.iter().filter(|(s, _)| *s >= t);
        let (n, right) =
            hits.fold((0, 0), |(n, right), (_, same)| (n + 1, right + u32::from(*same)));
        json!({"threshold": t, "found": n, "precision": f64::from(right) / f64::from(n.max(1)),
            "recall": f64::from(right) / same.max(1) as f64})
    });
    json!({"pairs": sorted.len(), "same": same, "auc": below as f64 / (same * different).max(1) as f64, "at": at})
}

/// Nearest neighbours of the test halves: is the nearest of one intent?
fn pairs_of(corpus: &Corpus, rows: &Rows, domain: &str) -> Vec<(f32, bool)> {
    let own: Vec<usize> = (0..corpus.texts.len())
        .filter(|&i| corpus.texts[i].domain == domain && !corpus.texts[i].is_train)
        .collect();
    let one = |n: u64| {
        let a = own[(even(77, 2 * n) * own.len() as f64) as usize];
        // Half of the pairs have one intent.
        let alike: Vec<usize> = match n % 2 {
            0 => own
                .iter()
                .copied()
                .filter(|&i| corpus.texts[i].intent == corpus.texts[a].intent && i != a)
                .collect(),
            _ => own
                .iter()
                .copied()
                .filter(|&i| corpus.texts[i].intent != corpus.texts[a].intent)
                .collect(),
        };
        let b = *alike.get((even(77, 2 * n + 1) * alike.len() as f64) as usize)?;
        Some((rows.cosine(a, b), n.is_multiple_of(2)))
    };
    (0..4000).filter_map(one).collect()
}

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let (mut data, mut embed, mut out, mut texts) =
        (PathBuf::new(), "static".to_owned(), None, None);
    while let Some(arg) = args.next() {
        let value = args.next().unwrap_or_default();
        match &*arg {
            "--data" => data = value.into(),
            "--embed" => embed = value,
            "--out" => out = Some(value),
            "--texts" => texts = Some(value),
            other => panic!("{other}, expected --data, --embed, --out or --texts"),
        }
    }
    if data.as_os_str().is_empty() {
        println!("needs --data DIR");
        return;
    }
    let corpus = corpus(&data);
    if let Some(path) = texts {
        let lines = corpus.texts.iter().map(|text| json!(text.text).to_string() + "\n");
        fs::write(path, lines.collect::<String>()).unwrap();
        return;
    }
    let rows = rows(&embed, &corpus.texts);
    let text = rounded(measured(&corpus, &rows, &embed)).to_string();
    match out {
        Some(path) => fs::write(path, text + "\n").unwrap(),
        None => println!("{text}"),
    }
}

/// Numbers with five digits behind the point.
fn rounded(value: Value) -> Value {
    match value {
        Value::Array(all) => all.into_iter().map(rounded).collect(),
        Value::Object(all) => all.into_iter().map(|(key, value)| (key, rounded(value))).collect(),
        Value::Number(x) if x.is_f64() => json!((x.as_f64().unwrap() * 1e5).round() / 1e5),
        other => other,
    }
}

fn measured(corpus: &Corpus, rows: &Rows, embed: &str) -> Value {
    let mut domains: Vec<String> = corpus.texts.iter().map(|text| text.domain.clone()).collect();
    domains.sort();
    domains.dedup();
    domains.retain(|domain| domain != "trap" && domain != "mock");
    let n_of = |domain: &str| if domain == "banking77" { (5000, 5000) } else { (1200, 1200) };
    let mut by_domain = serde_json::Map::new();
    // Of each threshold for all domains: hits and errors in each domain.
    let mut global = vec![vec![Count::default(); domains.len()]; THRESHOLDS];
    let mut totals = [Count::default(); 3];
    let (mut sizes, mut worst) = (vec![0u64; domains.len()], [0f64; 3]);
    for (d, domain) in domains.iter().enumerate() {
        let (n_train, n_test) = n_of(domain);
        let mut ours = [Count::default(); 3];
        let (mut chosen, mut points) = (Vec::new(), vec![Count::default(); THRESHOLDS]);
        for seed in 0..SEEDS {
            let train = curve(corpus, rows, &drawn(corpus, domain, true, n_train, seed), true);
            let test = drawn(corpus, domain, false, n_test, 1000 + seed);
            let with = curve(corpus, rows, &test, true);
            let without = curve(corpus, rows, &test, false);
            sizes[d] += with.n;
            for (t, count) in with.counts.iter().enumerate() {
                add(&mut points[t], *count);
                add(&mut global[t][d], without.counts[t]);
            }
            let of = |target: f64| match train.choose(target, CONFIDENCE) {
                Choice::Threshold(i) => i,
                _ => THRESHOLDS - 1,
            };
            let (whole, most) = (of(TARGET), of(0.8 * TARGET));
            add(&mut ours[0], with.counts[whole]);
            add(&mut ours[1], verified(corpus, rows, &test, threshold(most), TARGET, seed));
            add(&mut ours[2], verified(corpus, rows, &test, threshold(whole), TARGET, seed));
            chosen.push(threshold(whole));
        }
        let n = sizes[d];
        for (i, count) in ours.iter().enumerate() {
            add(&mut totals[i], *count);
            worst[i] = worst[i].max(count.errors as f64 / n as f64);
        }
        let curve: Vec<Value> = (0..THRESHOLDS)
            .step_by(2)
            .map(|t| {
                json!([
                    threshold(t),
                    points[t].hits as f64 / n as f64,
                    points[t].errors as f64 / n as f64,
                    global[t][d].hits as f64 / n as f64,
                    global[t][d].errors as f64 / n as f64
                ])
            })
            .collect();
        by_domain.insert(
            domain.clone(),
            json!({
                "thresholds": chosen,
                "calibrated": shares(ours[0], n),
                "calibrated_stricter_and_verified": shares(ours[1], n),
                "calibrated_and_verified": shares(ours[2], n),
                "pairs": quality(&pairs_of(corpus, rows, domain)),
                "curve": curve,
            }),
        );
        eprintln!("{domain}: {:?} {ours:?} of {n}", by_domain[domain]["thresholds"]);
    }
    let n: u64 = sizes.iter().sum();
    let total = |counts: &[Count]| {
        counts.iter().fold(Count::default(), |mut sum, count| {
            add(&mut sum, *count);
            sum
        })
    };
    let is_below = |t: &usize| {
        (0..domains.len()).all(|d| (global[*t][d].errors as f64) < TARGET * sizes[d] as f64)
    };
    let everywhere = (0..THRESHOLDS).rev().take_while(is_below).last();
    let equal = (0..THRESHOLDS)
        .rev()
        .take_while(|&t| total(&global[t]).errors <= totals[0].errors.max(1))
        .last();
    let of = |t: Option<usize>| {
        t.map_or(
            Value::Null,
            |t| json!({"threshold": threshold(t), "all": shares(total(&global[t]), n)}),
        )
    };
    let mock: Vec<(f32, bool)> = (0..corpus.mock.len())
        .flat_map(|i| {
            let [a, b] = corpus.mock[i];
            let other = corpus.mock[(i * 7 + 1) % corpus.mock.len()][1];
            [(rows.cosine(a, b), true), (rows.cosine(a, other), false)]
        })
        .collect();
    json!({
        "embed": embed, "target": TARGET, "confidence": CONFIDENCE, "seeds": SEEDS, "margin": MARGIN,
        "calibrated": shares(totals[0], n),
        "calibrated_stricter_and_verified": shares(totals[1], n),
        "calibrated_and_verified": shares(totals[2], n),
        "worst_domain_error": worst,
        "best_single_threshold_below_target_in_every_domain": of(everywhere),
        "best_single_threshold_at_the_same_error": of(equal),
        "mock_pairs": quality(&mock),
        "domains": by_domain,
    })
}
