//! Connections that are open: when there are as many as may be, the one that keeps the server waiting longest makes room.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::server::watched::Phase;

/// Connections that are open.
#[derive(Default)]
pub struct Crowd(Mutex<Open>);

#[derive(Default)]
struct Open {
    n_entered: u64,
    phases: BTreeMap<u64, Arc<Phase>>,
}

/// A connection among the others, until this is dropped.
pub struct Member {
    crowd: Arc<Crowd>,
    number: u64,
}

impl Crowd {
    /// Takes a connection in.
    pub fn enter(self: &Arc<Self>, phase: Arc<Phase>) -> Member {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.n_entered += 1;
        let number = open.n_entered;
        open.phases.insert(number, phase);
        Member { crowd: Arc::clone(self), number }
    }

    /// Asks the connection to leave that has kept the server waiting longest and at least so long, of those that sent no whole request
    /// first; says whether there is one.
    pub fn make_room(&self, patience: Duration) -> bool {
        let open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = open.phases.values().filter_map(|phase| Some((phase.idle()?, phase)));
        let longest = waiting.max_by_key(|(idle, _)| *idle);
        match longest {
            Some((idle, phase)) if idle.waited >= patience => {
                phase.ask_to_leave();
                true
            }
            _ => false,
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut open = self.crowd.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.phases.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_keeps_waiting_longest_leaves_and_nobody_who_is_being_answered() {
        let crowd = Arc::new(Crowd::default());
        let [kept, silent, answered] = [(); 3].map(|()| Phase::new());
        let members = [&answered, &kept, &silent].map(|phase| crowd.enter(phase.clone()));
        answered.answering();
        kept.answered();
        let leaving = || [&answered, &kept, &silent].map(|phase| phase.is_asked_to_leave());
        assert!(!crowd.make_room(Duration::from_secs(3600)), "nobody has waited so long");
        assert!(crowd.make_room(Duration::ZERO));
        assert_eq!(leaving(), [false, false, true], "it has sent nothing");
        assert!(crowd.make_room(Duration::ZERO));
        assert_eq!(leaving(), [false, true, true]);
        assert!(!crowd.make_room(Duration::ZERO), "who is being answered stays");
        drop(members);
        assert!(crowd.0.lock().unwrap().phases.is_empty());
    }
}
