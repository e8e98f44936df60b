//! What the figures say of the protection, in plain words.

use std::fmt;

use serde_json::Value;

/// Points of accuracy within which a reading of the weights counts as unharmed.
const READING: f64 = 0.05;
/// Share of recognised pictures within which an attack counts as unhindered.
const REBUILT: f64 = 0.10;
/// Share of accuracy that the paper claims to lose at most.
pub const LOST: f64 = 0.02;
/// The attacks with their keys.
const ATTACKS: [(&str, &str); 2] = [("A1", "back_conversion"), ("A2", "spike_gradient")];

/// Whether a network lost more than [`LOST`]; of a difference of shares of images the rounding is no loss.
pub fn lost_much(drop: f64) -> bool {
    drop > LOST + 1e-9
}

/// By what a verdict is reached, for readers.
pub fn criterion() -> String {
    let points = |share: f64| (share * 100.0).round();
    let (reading, rebuilt) = (points(READING), points(REBUILT));
    format!(
        "Signs that the encryption fails: (1) the better reading of the encrypted weights is at most {reading} points less \
         accurate than the encrypted network, and more than half as accurate; (2) of A1, and (3) of A2, the judge recognises \
         pictures of the encrypted network at most {rebuilt} points less often than those of the converted one, and more than \
         half as often. If all signs are there, it hides nothing; if some are, at most a part. An attack is left out if the \
         judge recognises at most {rebuilt} % of its pictures of the converted network, or if more than a tenth of its pictures \
         had no gradient in most iterations; without any attack the readings alone decide. Fréchet distances have no say."
    )
}

/// How the encryption fails, or that it is not seen to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Finding {
    /// All signs are against it.
    HidesNothing,
    /// Some are.
    HidesPart,
    /// The weights still classify, and no attack has a say.
    StillClassifies,
    /// They do not, and no attack has a say.
    Untested,
    /// No sign is against it, though an attack has a say.
    NoFailureSeen,
}

impl Finding {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::HidesNothing => "the encryption hides nothing that these attacks can see",
            Self::HidesPart => "the encryption hides at most a part of what these attacks can see",
            Self::StillClassifies => {
                "the encrypted weights still classify about as well as the network itself or better, and no attack finds \
                 enough to tell more"
            }
            Self::Untested => {
                "the encrypted weights no longer classify as well as the network itself, and no attack finds enough on the \
                 converted network to tell whether more is hidden"
            }
            Self::NoFailureSeen => "no failure of the encryption is seen by these attacks",
        }
    }
}

/// A finding with the figures that show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What is found.
    pub finding: Finding,
    figures: String,
    /// Attacks that have no say.
    silent: Vec<&'static str>,
    runs: usize,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.runs {
            0 | 1 => write!(f, "On this run")?,
            runs => write!(f, "On these {runs} runs (mean)")?,
        }
        write!(f, " {}: {}", self.finding.words(), self.figures)?;
        match self.silent.as_slice() {
            [] => write!(f, "."),
            silent => write!(f, "; {} left out.", silent.join(" and ")),
        }
    }
}

/// What the figures show; none without figures. A sign that the encryption fails: the better one of the encrypted network's readings is at most 5 points
/// below its accuracy and above half of it, or an attack on it at most 10 points below the same on the converted network and
/// above half of that. An attack has no say where the judge recognises at most 10 % on the converted network: there was nothing to
/// hide from it. `figure` gives the figure of a row ([`super::rows::rows`]), the mean where there are several `runs`; none of
/// an attack without a say ([`super::rows::Unguided::has_a_say`]).
pub fn verdict(figure: impl Fn(&str) -> Option<f64>, runs: usize) -> Option<Verdict> {
    let of = |key: &str| figure(key).filter(|value| value.is_finite());
    let attacks = ATTACKS.map(|(name, key)| {
        let on = |network: &str| of(&format!("attacks.{key}.{network}.judge_top1"));
        Some((name, on("encrypted")?, on("converted")?))
    });
    let attacks: Vec<_> = attacks.into_iter().flatten().collect();
    let telling: Vec<_> = attacks.iter().filter(|attack| attack.2 > REBUILT).collect();
    let mut signs: Vec<(bool, String)> = read(of).into_iter().collect();
    signs.extend(telling.iter().map(|(name, after, before)| {
        let words = format!(
            "the judge recognises {:.1} % of what {name} rebuilds from the encrypted network, {:.1} % from the converted one",
            after * 100.0,
            before * 100.0
        );
        (*after >= before - REBUILT && *after > before / 2.0, words)
    }));
    if signs.is_empty() {
        return None;
    }
    let silent = ATTACKS.iter().map(|(name, _)| *name);
    let silent = silent.filter(|name| telling.iter().all(|attack| attack.0 != *name));
    let fails = signs.iter().filter(|(fails, _)| *fails).count();
    let finding = match (telling.is_empty(), fails) {
        (true, 0) => Finding::Untested,
        (true, _) => Finding::StillClassifies,
        (false, 0) => Finding::NoFailureSeen,
        (false, all) if all == signs.len() => Finding::HidesNothing,
        (false, _) => Finding::HidesPart,
    };
    let words: Vec<String> = signs.into_iter().map(|(_, words)| words).collect();
    Some(Verdict {
        finding,
        figures: words.join("; "),
        silent: silent.collect(),
        runs,
    })
}

/// Whether the weights still classify, by the better of their readings.
fn read(of: impl Fn(&str) -> Option<f64>) -> Option<(bool, String)> {
    let readings = [
        ("plain ReLUs", of("leakage.encrypted.relu_reading_accuracy")),
        ("rates", of("leakage.encrypted.rate_reading_accuracy")),
    ];
    let (kind, reading) = readings
        .into_iter()
        .filter_map(|(kind, accuracy)| Some((kind, accuracy?)))
        .reduce(|best, next| if next.1 > best.1 { next } else { best })?;
    let accuracy = of("encrypted.test_accuracy")?;
    // a failure at the source network's accuracy weighs more
    let lost = of("encrypted.drop_vs_ann").filter(|&lost| lost_much(lost));
    let lost = lost.map_or(String::new(), |lost| {
        format!(" ({:.1} points below its source network)", lost * 100.0)
    });
    let words = format!(
        "its weights read as a network of {kind} classify {:.1} % of all test images rightly, the encrypted network itself \
         {:.1} % of those that it is evaluated on{lost}",
        reading * 100.0,
        accuracy * 100.0
    );
    Some((
        reading >= accuracy - READING && reading > accuracy / 2.0,
        words,
    ))
}

/// That of one variant of a report.
pub fn of_report(report: &Value, variant: &str) -> Option<Verdict> {
    let figure = |key: &str| {
        let figure = super::rows::figure(report, variant, key)?;
        let unguided = super::rows::unguided(report, variant, key);
        unguided.has_a_say().then_some(figure)
    };
    verdict(figure, 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(reading: f64, accuracy: f64, after: f64, before: f64, runs: usize) -> Option<String> {
        said_with((reading, accuracy), (after, before), None, runs)
    }

    fn said_with(
        (reading, accuracy): (f64, f64),
        (after, before): (f64, f64),
        second: Option<(f64, f64)>,
        runs: usize,
    ) -> Option<String> {
        verdict(
            |key| match key {
                "leakage.encrypted.relu_reading_accuracy" => Some(reading),
                "encrypted.test_accuracy" => Some(accuracy),
                "leakage.encrypted.rate_reading_accuracy" => None,
                "attacks.back_conversion.encrypted.judge_top1" => Some(after),
                "attacks.back_conversion.converted.judge_top1" => Some(before),
                "attacks.spike_gradient.encrypted.judge_top1" => second.map(|(after, _)| after),
                "attacks.spike_gradient.converted.judge_top1" => second.map(|(_, before)| before),
                "encrypted.drop_vs_ann" => None,
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
    fn a_failure_at_lower_accuracy_says_so() {
        let said = |lost: f64| {
            let figure = |key: &str| match key {
                "leakage.encrypted.relu_reading_accuracy" => Some(0.5),
                "encrypted.test_accuracy" => Some(0.5),
                "encrypted.drop_vs_ann" => Some(lost),
                _ => None,
            };
            verdict(figure, 1).unwrap().to_string()
        };
        assert!(said(0.273).contains("evaluated on (27.3 points below its source network)"));
        // of 2 000 images exactly 2 points, and one more
        assert!(!said(0.798 - 0.778).contains("below its source"));
        assert!(said(0.798 - 0.7775).contains("below its source"));
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
        assert!(text.contains("no attack finds enough"), "{text}");
        assert!(
            !text.contains("these attacks") && !text.contains("4.0 %"),
            "{text}"
        );
    }

    #[test]
    fn either_attack_shows_a_failure() {
        let text = said_with((0.3, 0.9), (0.05, 0.8), Some((0.9, 0.9)), 1).unwrap();
        assert!(text.contains("at most a part"), "{text}");
        assert!(
            text.contains("90.0 % of what A2 rebuilds from the encrypted"),
            "{text}"
        );
        let text = said_with((0.3, 0.9), (0.05, 0.8), Some((0.05, 0.9)), 1).unwrap();
        assert!(
            text.contains("no failure of the encryption is seen"),
            "{text}"
        );
        // one that finds nothing leaves it to the other
        let text = said_with((0.9, 0.9), (0.02, 0.04), Some((0.8, 0.8)), 1).unwrap();
        assert!(
            text.contains("hides nothing") && text.ends_with("; A1 left out."),
            "{text}"
        );
    }

    /// Noise is no protection: of 100 pictures of the encrypted network 60 are their own starts.
    #[test]
    fn an_attack_that_mostly_had_no_gradient_has_no_say() {
        let report = |without: u64| {
            let attack = |target: &str, recognised: f64, without: u64| {
                serde_json::json!({"attack": "spike_gradient", "target": target, "samples": 100,
                    "judge_top1": recognised, "without_gradient": without})
            };
            serde_json::json!({"dataset": "cifar10", "variants": {"a": {
                "encrypted": {"test_accuracy": 0.9},
                "leakage": [{"target": "encrypted", "relu_reading_accuracy": 0.9}],
                "attacks": [attack("converted", 0.9, 0), attack("encrypted", 0.4, without)],
            }}})
        };
        let words = |without| of_report(&report(without), "a").unwrap().to_string();
        assert!(words(60).contains("no attack finds enough"));
        assert!(words(10).contains("at most a part"));
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
    fn protection_that_works_is_not_confused_with_one_that_nothing_tested() {
        let finding =
            |reading, accuracy, after, before| said(reading, accuracy, after, before, 1).unwrap();
        let works = "no failure of the encryption is seen by these attacks: its weights";
        assert!(finding(0.3, 0.98, 0.2, 0.94).contains(works));
        assert!(finding(f64::NAN, 0.98, 0.2, 0.94).contains("no failure"));
        let untested = finding(0.3, 0.98, 0.1, 0.1);
        assert!(
            untested.contains("no attack finds enough on the converted network"),
            "{untested}"
        );
        assert!(!untested.contains("no failure") && untested.ends_with("; A1 and A2 left out."));
        // within 5 points of a network that says nothing itself
        assert!(finding(0.005, 0.046, 0.1, 0.1).contains("no longer classify"));
        assert_eq!(verdict(|_| None, 1), None);
    }
}
