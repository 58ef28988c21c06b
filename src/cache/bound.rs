//! What was observed of an entry whose answer was compared with the model's: whether it may be served.

/// Most observations of an entry: with more, the estimate hardly moves.
const MOST: usize = 64;

/// What the bound says of serving an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// It may be served.
    Serve,
    /// The model is asked, to learn more.
    Explore,
}

/// Observations of one entry, oldest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Observed {
    all: Vec<(f32, bool)>,
}

impl Observed {
    /// Those that were kept, if there are any.
    pub fn of(all: Vec<(f32, bool)>) -> Option<Self> {
        (!all.is_empty()).then_some(Self { all })
    }

    /// Adds one; the oldest gives way once there are [`MOST`].
    pub fn push(&mut self, similarity: f32, was_right: bool) {
        if self.all.len() == MOST {
            self.all.remove(0);
        }
        self.all.push((similarity, was_right));
    }

    /// All of them.
    pub fn all(&self) -> &[(f32, bool)] {
        &self.all
    }

    /// What the bound says at a similarity; `None` while too little was observed.
    pub fn decide(&self, _similarity: f32, _delta: f64, _draw: f64) -> Option<Decision> {
        None
    }
}
