//! What the figures say of the protection, in plain words.

use std::fmt;

use serde_json::Value;

/// Points of accuracy within which the ReLU reading counts as unharmed.
const READING: f64 = 0.05;
/// Share of recognised pictures within which A1 counts as unhindered.
const REBUILT: f64 = 0.10;

/// How the encryption fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// All signs are against it.
    HidesNothing,
    /// Some are.
    HidesPart,
    /// The weights still classify, and A1 has no say.
    StillClassifies,
}

impl Failure {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::HidesNothing => "the encryption hides nothing that these attacks can see",
            Self::HidesPart => "the encryption hides at most a part of what these attacks can see",
            Self::StillClassifies => {
                "the encrypted weights still classify about as well as the network itself or better, while A1 rebuilds \
                 too little from the converted network to tell"
            }
        }
    }
}

/// A failure with the figures that show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// How the encryption fails.
    pub failure: Failure,
    figures: String,
    runs: usize,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.runs {
            0 | 1 => write!(f, "On this run")?,
            runs => write!(f, "On these {runs} runs (mean)")?,
        }
        write!(f, " {}: {}.", self.failure.words(), self.figures)
    }
}

/// Where the figures show that the encryption fails: the better one of the encrypted network's readings is within 5 points
/// of its accuracy and above half of it, or A1 on it within 10 points of A1 on the converted network and above half of that. A1 has no say where the judge recognises
/// at most 10 % on the converted network: there was nothing to hide from it. `figure` gives the figure of a row
/// ([`super::rows::rows`]), the mean where there are several `runs`.
pub fn verdict(figure: impl Fn(&str) -> Option<f64>, runs: usize) -> Option<Verdict> {
    let of = |key: &str| figure(key).filter(|value| value.is_finite());
    let readings = [
        ("plain ReLUs", of("leakage.encrypted.relu_reading_accuracy")),
        ("rates", of("leakage.encrypted.rate_reading_accuracy")),
    ];
    let best = readings
        .into_iter()
        .filter_map(|(kind, accuracy)| Some((kind, accuracy?)))
        .reduce(|best, next| if next.1 > best.1 { next } else { best });
    let reading = best
        .zip(of("encrypted.test_accuracy"))
        .map(|((kind, reading), accuracy)| {
            let words = format!(
                "its weights read as a network of {kind} classify {:.1} % of the test images rightly, the encrypted \
                 network itself {:.1} %",
                reading * 100.0,
                accuracy * 100.0
            );
            let fails = reading >= accuracy - READING && reading > accuracy / 2.0;
            (fails, words)
        });
    let rebuilt = of("attacks.back_conversion.encrypted.judge_top1")
        .zip(of("attacks.back_conversion.converted.judge_top1"))
        .filter(|(_, before)| *before > REBUILT)
        .map(|(after, before)| {
            let words = format!(
                "the judge recognises {:.1} % of what A1 rebuilds from the encrypted network, {:.1} % from the converted one",
                after * 100.0,
                before * 100.0
            );
            (after >= before - REBUILT && after > before / 2.0, words)
        });
    let weak =
        of("attacks.back_conversion.converted.judge_top1").is_some_and(|before| before <= REBUILT);
    let signs: Vec<(bool, String)> = [reading, rebuilt].into_iter().flatten().collect();
    if !signs.iter().any(|(fails, _)| *fails) {
        return None;
    }
    let failure = if weak {
        Failure::StillClassifies
    } else if signs.iter().all(|(fails, _)| *fails) {
        Failure::HidesNothing
    } else {
        Failure::HidesPart
    };
    let words: Vec<String> = signs.into_iter().map(|(_, words)| words).collect();
    Some(Verdict {
        failure,
        figures: words.join("; "),
        runs,
    })
}

/// That of one variant of a report.
pub fn of_report(report: &Value, variant: &str) -> Option<Verdict> {
    verdict(|key| super::rows::figure(report, variant, key), 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(reading: f64, accuracy: f64, after: f64, before: f64, runs: usize) -> Option<String> {
        verdict(
            |key| match key {
                "leakage.encrypted.relu_reading_accuracy" => Some(reading),
                "encrypted.test_accuracy" => Some(accuracy),
                "leakage.encrypted.rate_reading_accuracy" => None,
                "attacks.back_conversion.encrypted.judge_top1" => Some(after),
                "attacks.back_conversion.converted.judge_top1" => Some(before),
                other => panic!("{other}"),
            },
            runs,
        )
        .map(|verdict| verdict.to_string())
    }

    #[test]
    fn a_failure_is_said_with_its_figures() {
        let text = said(0.99, 0.98, 0.9, 0.94, 1).unwrap();
        assert!(
            text.starts_with(
                "On this run the encryption hides nothing that these attacks can see: "
            ),
            "{text}"
        );
        for figure in ["99.0 %", "98.0 %", "90.0 %", "94.0 %"] {
            assert!(text.contains(figure), "{text}");
        }
        assert!(
            said(0.99, 0.98, 0.9, 0.94, 3)
                .unwrap()
                .starts_with("On these 3 runs (mean) ")
        );
    }

    #[test]
    fn the_better_reading_counts() {
        let said = verdict(
            |key| match key {
                "leakage.encrypted.relu_reading_accuracy" => Some(0.6),
                "leakage.encrypted.rate_reading_accuracy" => Some(0.9),
                "encrypted.test_accuracy" => Some(0.91),
                _ => None,
            },
            1,
        );
        let text = said.unwrap().to_string();
        assert!(text.contains("network of rates classify 90.0 %"), "{text}");
    }

    #[test]
    fn an_attack_that_shows_nothing_is_no_sign() {
        let text = said(0.67, 0.68, 0.05, 0.04, 1).unwrap();
        assert!(text.contains("A1 rebuilds too little"), "{text}");
        assert!(
            !text.contains("these attacks") && !text.contains("4.0 %"),
            "{text}"
        );
    }

    #[test]
    fn one_sign_of_two_is_not_said_to_be_all() {
        for text in [
            said(0.99, 0.98, 0.2, 0.94, 1),
            said(0.3, 0.98, 0.9, 0.94, 1),
        ] {
            assert!(text.unwrap().contains("at most a part"));
        }
    }

    #[test]
    fn protection_that_works_and_figures_that_are_missing_are_not_judged() {
        assert_eq!(said(0.3, 0.98, 0.2, 0.94, 1), None);
        assert_eq!(said(0.3, 0.98, 0.1, 0.1, 1), None);
        // within 5 points of a network that says nothing itself
        assert_eq!(said(0.005, 0.046, 0.1, 0.1, 1), None);
        assert_eq!(verdict(|_| None, 1), None);
        assert_eq!(said(f64::NAN, 0.98, 0.2, 0.94, 1), None);
    }
}
