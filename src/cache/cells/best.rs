//! The few rows of greatest estimates.

/// How many are kept: more than are looked at for nearly every query.
const KEPT: usize = 16;

/// How many are kept of those of which none is near enough.
pub(super) const FEW: usize = 4;

/// A row and what is estimated of its cosine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Near {
    pub estimate: f32,
    pub cell: usize,
    pub at: usize,
}

impl Near {
    /// Whether it comes before another: an order without ties, so that the order in which rows are seen does not matter.
    fn is_before(&self, other: &Self) -> bool {
        let place = |near: &Self| (near.cell, near.at);
        self.estimate > other.estimate
            || (self.estimate == other.estimate && place(self) < place(other))
    }
}

/// The rows of greatest estimates, greatest first.
#[derive(Clone, Debug)]
pub(super) struct Best {
    all: Vec<Near>,
    floor: f32,
    /// A row of a lesser estimate changes nothing.
    bound: f32,
}

impl Best {
    /// None yet; of those below `floor` only [`FEW`] are kept.
    pub fn new(floor: f32) -> Self {
        Self { all: Vec::with_capacity(KEPT + 1), floor, bound: f32::NEG_INFINITY }
    }

    /// Greatest first.
    pub fn all(&self) -> &[Near] {
        &self.all
    }

    /// A row of a lesser estimate changes nothing.
    #[inline]
    pub fn bound(&self) -> f32 {
        self.bound
    }

    /// Takes a row if it is among the greatest.
    #[inline]
    pub fn push(&mut self, near: Near) {
        if near.estimate >= self.bound {
            self.insert(near);
        }
    }

    fn insert(&mut self, near: Near) {
        // Most come in nearly last.
        let at = self.all.iter().rposition(|other| other.is_before(&near)).map_or(0, |at| at + 1);
        self.all.insert(at, near);
        let n_above = self.all.iter().take_while(|near| near.estimate >= self.floor).count();
        self.all.truncate(n_above.clamp(FEW, KEPT));
        self.bound = match self.all.len() {
            n if n < FEW => f32::NEG_INFINITY,
            n if n < KEPT && n_above >= FEW => self.floor,
            n => self.all[n - 1].estimate,
        };
    }

    /// Whether a row with at least this estimate, which is not below the floor, may be missing.
    pub fn may_have_lost(&self, estimate: f32) -> bool {
        self.all.len() == KEPT && self.bound >= estimate
    }
}
