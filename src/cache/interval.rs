//! How sure a measured share is.
//!
//! Clopper and Pearson's interval, not Wilson's: it is never too narrow, and where it matters here (no error or few among
//! some hundred requests) Wilson's is, by a third and more of the errors that it lets through.

/// Halvings of an interval of numbers: beyond them 64 bits do not tell its ends apart.
const HALVINGS: usize = 60;

/// The share below which the truth lies with this confidence, if `k` of `n` were seen: one-sided. 1 if nothing was seen.
///
/// Paper: Clopper, Pearson, "The use of confidence or fiducial limits illustrated in the case of the binomial", 1934.
///
/// # Panics
/// If `k` is more than `n`, or `confidence` not in (0, 1).
pub fn upper(k: u64, n: u64, confidence: f64) -> f64 {
    assert!(k <= n && confidence > 0.0 && confidence < 1.0, "{k} of {n} at {confidence}");
    if k == n {
        return 1.0;
    }
    root(|p| at_most(k, n, p) > 1.0 - confidence)
}

/// The share above which the truth lies with this confidence: one-sided. 0 if nothing was seen.
///
/// # Panics
/// As [`upper`].
pub fn lower(k: u64, n: u64, confidence: f64) -> f64 {
    1.0 - upper(n - k.min(n), n, confidence)
}

/// Least and greatest share that go with `k` of `n`: the truth lies between with this confidence, half of the doubt on each
/// side.
///
/// # Panics
/// As [`upper`].
pub fn interval(k: u64, n: u64, confidence: f64) -> (f64, f64) {
    let side = 1.0 - (1.0 - confidence) / 2.0;
    (lower(k, n, side), upper(k, n, side))
}

/// How many must be seen with none among them, before the truth lies below `share` with this confidence.
pub fn least_seen(share: f64, confidence: f64) -> u64 {
    ((1.0 - confidence).ln() / (1.0 - share).ln()).ceil() as u64
}

/// The number below which a normally distributed one lies with probability `p`.
///
/// # Panics
/// If `p` is not in (0, 1).
pub fn normal_quantile(p: f64) -> f64 {
    assert!(p > 0.0 && p < 1.0, "{p} is no probability between 0 and 1");
    16.0 * root(|x| normal(16.0 * x - 8.0) < p) - 8.0
}

/// The point in [0, 1] up to which `holds` does.
fn root(holds: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..HALVINGS {
        let middle = (low + high) / 2.0;
        if holds(middle) { low = middle } else { high = middle }
    }
    high
}

/// Probability that a normally distributed number is below `x`, by its series around 0.
fn normal(x: f64) -> f64 {
    let density = (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let (mut term, mut sum, mut odd) = (x, x, 1.0);
    while term.abs() > 1e-18 * sum.abs() && odd < 1000.0 {
        odd += 2.0;
        term *= x * x / odd;
        sum += term;
    }
    0.5 + density * sum
}

/// Probability that of `n` draws with chance `p` at most `k` succeed.
fn at_most(k: u64, n: u64, p: f64) -> f64 {
    let odds = (1.0 - p) / p;
    let (k_, n_) = (k as f64, n as f64);
    let logarithm = ln_factorial(n) - ln_factorial(k) - ln_factorial(n - k)
        + k_ * p.ln()
        + (n_ - k_) * (-p).ln_1p();
    // Added up from k downwards, in parts of the probability of k itself.
    let (mut term, mut sum, mut i) = (1.0, 1.0, k_);
    while i > 0.0 && term > 1e-17 * sum {
        term *= odds * i / (n_ - i + 1.0);
        sum += term;
        i -= 1.0;
    }
    (logarithm + sum.ln()).exp()
}

/// ln(n!), by Stirling's series from 16 on.
fn ln_factorial(n: u64) -> f64 {
    if n < 16 {
        return (2..=n).map(|i| (i as f64).ln()).sum();
    }
    let x = n as f64;
    let series = 1.0 / (12.0 * x) - 1.0 / (360.0 * x.powi(3)) + 1.0 / (1260.0 * x.powi(5));
    x * x.ln() - x + (2.0 * std::f64::consts::PI * x).ln() / 2.0 + series
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_near(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9 * b.abs().max(1e-3)
    }

    /// P(at most k), added up plainly.
    fn plain(k: u64, n: u64, p: f64) -> f64 {
        let mut choose = 1.0;
        (0..=k)
            .map(|i| {
                if i > 0 {
                    choose *= (n - i + 1) as f64 / i as f64;
                }
                choose * p.powi(i as i32) * (1.0 - p).powi((n - i) as i32)
            })
            .sum()
    }

    #[test]
    fn bounds_are_where_the_tail_has_the_probability_asked_for() {
        for (k, n) in [(0, 1), (0, 300), (1, 20), (5, 40), (19, 20), (30, 60), (3, 600)] {
            for confidence in [0.5, 0.9, 0.95, 0.999] {
                let p = upper(k, n, confidence);
                assert!((plain(k, n, p) - (1.0 - confidence)).abs() < 1e-7, "{k} of {n}: {p}");
                let (low, high) = interval(k, n, confidence);
                assert!(low <= k as f64 / n as f64 && k as f64 / n as f64 <= high);
            }
        }
        // No error among n: the bound is known in closed form.
        assert!(is_near(upper(0, 299, 0.95), 1.0 - 0.05f64.powf(1.0 / 299.0)));
        assert_eq!((upper(7, 7, 0.95), lower(0, 7, 0.95), upper(0, 0, 0.95)), (1.0, 0.0, 1.0));
        assert!(upper(1_000, 2_000_000, 0.95) < 0.00053 && upper(1_000, 2_000_000, 0.95) > 0.0005);
    }

    #[test]
    fn least_seen_is_the_first_number_whose_bound_is_below_the_share() {
        for (share, confidence) in [(0.01, 0.95), (0.05, 0.99), (0.002, 0.9)] {
            let n = least_seen(share, confidence);
            assert!(upper(0, n, confidence) <= share && upper(0, n - 1, confidence) > share);
        }
    }

    #[test]
    fn quantiles_are_those_of_tables() {
        for (p, quantile) in [(0.5, 0.0), (0.975, 1.959_963_985), (0.01, -2.326_347_874)] {
            assert!((normal_quantile(p) - quantile).abs() < 1e-8, "{p}");
        }
    }
}
