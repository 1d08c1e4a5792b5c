//! The random choices that make a document: drawn from a seed, recorded, and replayed.
//!
//! A failing case is shrunk on its record: choices are removed or made smaller, and the generator makes
//! another, mostly smaller document from the rest.

use fastrand::Rng;

/// Number of attempts to find a smaller document.
const ATTEMPTS: usize = 600;

/// A source of choices that records them.
pub(crate) struct Source {
    tape: Vec<u64>,
    at: usize,
    rng: Option<Rng>,
}

impl Source {
    /// Makes a source that draws from `seed`.
    pub(crate) fn seeded(seed: u64) -> Self {
        Self {
            tape: Vec::new(),
            at: 0,
            rng: Some(Rng::with_seed(seed)),
        }
    }

    /// Makes a source that replays a record; after its end each choice is the first.
    pub(crate) fn recorded(tape: &[u64]) -> Self {
        Self {
            tape: tape.to_vec(),
            at: 0,
            rng: None,
        }
    }

    /// Returns the record.
    pub(crate) fn tape(self) -> Vec<u64> {
        self.tape
    }

    /// Returns a number below `end`; zero is the simplest.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end.max(1)).expect("usize has at most 64 bits");
        let drawn = match (self.tape.get(self.at), &mut self.rng) {
            (Some(drawn), _) => drawn % end,
            (None, Some(rng)) => {
                let drawn = rng.u64(..end);
                self.tape.push(drawn);
                drawn
            }
            (None, None) => 0,
        };
        self.at += 1;
        usize::try_from(drawn).expect("below a usize")
    }

    /// Returns a number between both, inclusive.
    pub(crate) fn between(&mut self, least: usize, most: usize) -> usize {
        least + self.below(most - least + 1)
    }

    /// Returns true once in `n` times.
    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == n - 1
    }

    /// Returns one of `all`; the first is the simplest.
    pub(crate) fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    /// Returns a generator for long text, which counts as one choice.
    pub(crate) fn bulk(&mut self) -> Rng {
        Rng::with_seed(self.below(1 << 32) as u64)
    }
}

/// Returns the smallest record found that still `fails`.
pub(crate) fn shrink(mut tape: Vec<u64>, mut fails: impl FnMut(&[u64]) -> bool) -> Vec<u64> {
    let mut left = ATTEMPTS;
    let mut attempt = |tape: &mut Vec<u64>, candidate: Vec<u64>| {
        if left == 0 || candidate == *tape {
            return false;
        }
        left -= 1;
        let better = fails(&candidate);
        if better {
            *tape = candidate;
        }
        better
    };
    let mut size = tape.len() / 2;
    while size > 0 {
        let mut at = 0;
        while at < tape.len() {
            let end = (at + size).min(tape.len());
            let without = [&tape[..at], &tape[end..]].concat();
            let mut zeroed = tape.clone();
            zeroed[at..end].fill(0);
            if !attempt(&mut tape, without) {
                attempt(&mut tape, zeroed);
                at += size;
            }
        }
        size /= 2;
    }
    for at in 0..tape.len() {
        for divisor in [1 << 16, 64, 2] {
            let mut smaller = tape.clone();
            if let Some(choice) = smaller.get_mut(at) {
                *choice /= divisor;
            }
            attempt(&mut tape, smaller);
        }
    }
    tape
}

#[test]
fn a_recorded_case_is_shrunk() {
    let fails = |tape: &[u64]| {
        let mut source = Source::recorded(tape);
        (0..20).any(|_| source.below(100) >= 40)
    };
    let tape = (0..100)
        .map(|seed| {
            let mut source = Source::seeded(seed);
            for _ in 0..20 {
                source.below(100);
            }
            source.tape()
        })
        .find(|tape| fails(tape))
        .unwrap();
    let small = shrink(tape, fails);
    assert!(fails(&small));
    assert_eq!(small.iter().filter(|choice| **choice > 0).count(), 1);
}
