//! Look-ups by stem, made of the lists in `words.rs` at first use.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use crate::cache::guard::words;

/// A word's place in a class: of two members of one class that are not one thing, one does not stand for the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Which class.
    pub class: u16,
    /// Which thing in it: words for the same thing share it.
    pub thing: u16,
    /// Whether it counts wherever it stands, not only where it is aligned.
    pub is_everywhere: bool,
}

/// All look-ups.
pub struct Tables {
    function: HashSet<String>,
    negations: HashSet<&'static str>,
    numbers: HashMap<&'static str, &'static str>,
    contracted: HashMap<&'static str, &'static str>,
    units: HashMap<String, &'static str>,
    opposites: HashMap<String, Vec<String>>,
    particles: HashMap<String, Vec<String>>,
    phrasal: HashSet<String>,
    classes: HashMap<String, Vec<Member>>,
    aliases: HashMap<String, String>,
    markers: HashSet<String>,
    directions: HashSet<String>,
    symmetric: HashSet<String>,
}

/// The tables of this build.
pub static TABLES: LazyLock<Tables> = LazyLock::new(|| Tables {
    function: stems(words::FUNCTION),
    negations: words::NEGATIONS.split_whitespace().collect(),
    numbers: words::NUMBERS.iter().copied().collect(),
    contracted: words::CONTRACTED.iter().copied().collect(),
    units: units(),
    opposites: pairs(words::OPPOSITES),
    particles: pairs(words::PARTICLES),
    phrasal: stems(words::PHRASAL),
    classes: classes(),
    aliases: aliases(),
    markers: stems(words::MARKERS),
    directions: stems(words::DIRECTIONS),
    symmetric: stems(words::SYMMETRIC),
});

impl Tables {
    /// Whether a stem carries no matter.
    pub fn is_function(&self, stem: &str) -> bool {
        self.function.contains(stem)
    }

    /// Whether a word in lower case says no.
    pub fn is_negation(&self, word: &str) -> bool {
        self.negations.contains(word)
    }

    /// The digits of a number in words.
    pub fn number(&self, word: &str) -> Option<&'static str> {
        self.numbers.get(word).copied()
    }

    /// What is left of a word that a negation was drawn into.
    pub fn contracted(&self, word: &str) -> Option<&'static str> {
        self.contracted.get(word).copied()
    }

    /// The one spelling of a unit.
    pub fn unit(&self, stem: &str) -> Option<&'static str> {
        self.units.get(stem).copied()
    }

    /// Whether two stems are opposites wherever they stand.
    pub fn are_opposites(&self, a: &str, b: &str) -> bool {
        holds(&self.opposites, a, b) || turned(a, b) || turned(b, a)
    }

    /// Whether two words are opposites where they are aligned.
    pub fn are_particles(&self, a: &str, b: &str) -> bool {
        holds(&self.particles, a, b)
    }

    /// Whether a particle turns the meaning of this verb.
    pub fn is_phrasal(&self, stem: &str) -> bool {
        self.phrasal.contains(stem)
    }

    /// The classes that a stem belongs to.
    pub fn classes(&self, stem: &str) -> &[Member] {
        self.classes.get(stem).map_or(&[], Vec::as_slice)
    }

    /// The stem of another word for the same thing, if there is a first one.
    pub fn alias(&self, stem: &str) -> Option<&str> {
        self.aliases.get(stem).map(String::as_str)
    }

    /// Whether a stem says which part the next word plays.
    pub fn is_marker(&self, stem: &str) -> bool {
        self.markers.contains(stem)
    }

    /// Whether it is one of those markers that count in any wording.
    pub fn is_direction(&self, stem: &str) -> bool {
        self.directions.contains(stem)
    }

    /// Whether the order of two things does not matter beside this stem.
    pub fn is_symmetric(&self, stem: &str) -> bool {
        self.symmetric.contains(stem)
    }
}

/// What is left of a word in lower case without its ending: forms of one word have one stem, most of the time.
pub fn stem(word: &str) -> String {
    if !word.is_ascii() || word.len() <= 3 {
        return word.to_owned();
    }
    if let Some(head) = word.strip_suffix("ies").or_else(|| word.strip_suffix("ied")) {
        return format!("{head}y");
    }
    let cut = |ending: &str, least: usize| word.strip_suffix(ending).filter(|h| h.len() >= least);
    if let Some(head) = cut("ing", 3).or_else(|| cut("ed", 3)) {
        return undoubled(head).to_owned();
    }
    let head = match word.strip_suffix('s') {
        Some(head) if !head.ends_with(['s', 'u', 'i']) => head,
        _ => word,
    };
    let sibilant = |end: &str| head.strip_suffix('e').is_some_and(|rest| rest.ends_with(end));
    if sibilant("ss") || sibilant("sh") || sibilant("ch") || sibilant("x") {
        return head[..head.len() - 1].to_owned();
    }
    head.strip_suffix('e').filter(|rest| rest.len() > 2).unwrap_or(head).to_owned()
}

/// `stopp` is of `stop`; `sell` and `pass` stay.
fn undoubled(head: &str) -> &str {
    let bytes = head.as_bytes();
    match bytes {
        [.., a, b] if a == b && bytes.len() > 3 && !b"lszaeiou".contains(b) => {
            &head[..head.len() - 1]
        }
        _ => head.strip_suffix('e').unwrap_or(head),
    }
}

/// Whether `b` is `a` with a beginning that turns it round.
fn turned(a: &str, b: &str) -> bool {
    let is_turned = |prefix: &&str| b.strip_prefix(*prefix).is_some_and(|rest| rest == a);
    let excepted = || words::NOT_TURNED.split_whitespace().any(|word| stem(word) == b);
    a.len() >= 2 && words::PREFIXES.iter().any(is_turned) && !excepted()
}

fn holds(pairs: &HashMap<String, Vec<String>>, a: &str, b: &str) -> bool {
    pairs.get(a).is_some_and(|others| others.iter().any(|other| other == b))
}

fn stems(list: &str) -> HashSet<String> {
    list.split_whitespace().map(stem).collect()
}

fn pairs(list: &str) -> HashMap<String, Vec<String>> {
    let mut pairs: HashMap<String, Vec<String>> = HashMap::new();
    for (a, b) in list.split_whitespace().filter_map(|pair| pair.split_once('/')) {
        let (a, b) = (stem(a), stem(b));
        pairs.entry(a.clone()).or_default().push(b.clone());
        pairs.entry(b).or_default().push(a);
    }
    pairs
}

fn units() -> HashMap<String, &'static str> {
    let mut units = HashMap::new();
    for group in words::UNITS.split_whitespace() {
        let name = group.split('=').next().expect("split gives at least one part");
        units.extend(group.split('=').map(|word| (stem(word), name)));
    }
    units
}

/// Words for the same thing, to the first of them.
fn aliases() -> HashMap<String, String> {
    let irregular = words::IRREGULAR.split_whitespace().filter_map(|pair| pair.split_once('/'));
    let mut aliases: HashMap<String, String> =
        irregular.map(|(form, word)| (stem(form), stem(word))).collect();
    for group in words::CLASSES.iter().flat_map(|list| list.split_whitespace()) {
        if let Some((first, others)) = group.split_once('=').filter(|(first, _)| !first.is_empty())
        {
            aliases.extend(others.split('=').map(|other| (stem(other), stem(first))));
        }
    }
    aliases
}

fn classes() -> HashMap<String, Vec<Member>> {
    let mut classes: HashMap<String, Vec<Member>> = HashMap::new();
    for (class, list) in (0..).zip(words::CLASSES) {
        let is_everywhere = list.starts_with('!');
        for (thing, group) in (0..).zip(list.trim_start_matches('!').split_whitespace()) {
            for word in group.split('=') {
                let member = Member { class, thing, is_everywhere };
                classes.entry(stem(word)).or_default().push(member);
            }
        }
    }
    classes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_a_word_have_one_stem() {
        for forms in [
            &["enable", "enabled", "enables", "enabling"][..],
            &["stop", "stops", "stopped", "stopping"],
            &["close", "closed", "closing", "closes"],
            &["deny", "denied", "denies"],
            &["add", "adds", "added", "adding"],
            &["sell", "sells", "selling"],
            &["pass", "passes", "passed", "passing"],
            &["push", "pushes", "pushed"],
            &["city", "cities"],
            &["day", "days"],
        ] {
            let all: HashSet<String> = forms.iter().map(|form| stem(form)).collect();
            assert_eq!(all.len(), 1, "{all:?}");
        }
        for (a, b) in [("press", "pres"), ("is", "i"), ("gas", "ga"), ("status", "statu")] {
            assert_ne!(stem(a), stem(b));
        }
    }

    #[test]
    fn beginnings_turn_words_except_where_they_do_not() {
        let are = |a: &str, b: &str| TABLES.are_opposites(&stem(a), &stem(b));
        assert!(are("subscribe", "unsubscribe") && are("connected", "disconnecting"));
        assert!(are("enabling", "disabled") && are("paid", "unpaid"));
        assert!(!are("cover", "discover") && !are("less", "unless") && !are("cat", "dog"));
    }

    #[test]
    fn no_pair_of_opposites_is_lost_because_both_have_one_stem() {
        for pair in words::OPPOSITES.split_whitespace().chain(words::PARTICLES.split_whitespace()) {
            let (a, b) = pair.split_once('/').expect("a pair");
            assert_ne!(stem(a), stem(b), "{pair}");
        }
    }
}
