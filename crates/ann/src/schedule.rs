//! Learning rate over a training.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Factor on the learning rate as a function of progress: 0 at the start, 1 at the end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Schedule {
    /// 1 throughout.
    // braces: serde would accept unknown keys beside the tag of a unit variant
    Constant {},
    /// Multiplied by `factor` at each milestone.
    Step {
        /// Shares of the training, ascending, in (0, 1).
        milestones: Vec<f64>,
        /// In (0, 1].
        factor: f64,
    },
    /// A linear rise from 0 over `warmup`, then half a cosine from 1 to `floor`.
    Cosine {
        /// Share of the training in [0, 1). Default 0.
        #[serde(default)]
        warmup: f64,
        /// In [0, 1]. Default 0.
        #[serde(default)]
        floor: f64,
    },
}

impl Schedule {
    /// Divided by 10 at 40, 60 and 80 % of the training, the authors' setting.
    pub fn paper() -> Self {
        Self::Step {
            milestones: vec![0.4, 0.6, 0.8],
            factor: 0.1,
        }
    }

    /// Checks the constants.
    ///
    /// # Errors
    /// The first constant outside its domain, by name.
    pub fn check(&self) -> Result<()> {
        let wrong = |name, message: String| Err(Error::argument(name, message));
        match self {
            Self::Constant {} => Ok(()),
            Self::Step { milestones, factor } => {
                let inside = milestones.iter().all(|m| *m > 0.0 && *m < 1.0);
                if !inside || !milestones.is_sorted() {
                    return wrong(
                        "schedule.milestones",
                        format!("must ascend within (0, 1), got {milestones:?}"),
                    );
                }
                if !(*factor > 0.0 && *factor <= 1.0) {
                    return wrong(
                        "schedule.factor",
                        format!("must be in (0, 1], got {factor}"),
                    );
                }
                Ok(())
            }
            Self::Cosine { warmup, floor } => {
                if !(0.0..1.0).contains(warmup) {
                    return wrong(
                        "schedule.warmup",
                        format!("must be in [0, 1), got {warmup}"),
                    );
                }
                if !(0.0..=1.0).contains(floor) {
                    return wrong("schedule.floor", format!("must be in [0, 1], got {floor}"));
                }
                Ok(())
            }
        }
    }

    /// The factor at `progress`, which is held to [0, 1].
    pub fn factor(&self, progress: f64) -> f64 {
        let progress = progress.clamp(0.0, 1.0);
        match self {
            Self::Constant {} => 1.0,
            Self::Step { milestones, factor } => {
                let passed = milestones.iter().filter(|m| progress >= **m).count();
                factor.powi(passed as i32)
            }
            Self::Cosine { warmup, .. } if progress < *warmup => progress / warmup,
            Self::Cosine { warmup, floor } => {
                let share = (progress - warmup) / (1.0 - warmup);
                floor + (1.0 - floor) * 0.5 * (1.0 + (std::f64::consts::PI * share).cos())
            }
        }
    }

    /// The factor of step `step` (from 0) out of `total`, taken at the middle of the step: a warm-up never gives the
    /// first step rate 0, nor a cosine the last one.
    pub fn at_step(&self, step: u64, total: u64) -> f64 {
        self.factor((step as f64 + 0.5) / total.max(1) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_fall_at_their_milestones() {
        let schedule = Schedule::paper();
        let factors: Vec<f64> = (0..10).map(|step| schedule.at_step(step, 10)).collect();
        let expected = [1.0, 1.0, 1.0, 1.0, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001];
        for (factor, expected) in factors.iter().zip(expected) {
            assert!((factor / expected - 1.0).abs() < 1e-12, "{factors:?}");
        }
    }

    #[test]
    fn cosine_rises_and_falls() {
        let schedule = Schedule::Cosine {
            warmup: 0.2,
            floor: 0.1,
        };
        for (progress, expected) in [
            (0.0, 0.0),
            (0.1, 0.5),
            (0.2, 1.0),
            (0.6, 0.55),
            (1.0, 0.1),
            (2.0, 0.1),
        ] {
            let factor = schedule.factor(progress);
            assert!((factor - expected).abs() < 1e-12, "{progress}: {factor}");
        }
        let plain = Schedule::Cosine {
            warmup: 0.0,
            floor: 0.0,
        };
        assert_eq!(plain.factor(0.0), 1.0);
        assert!((0..5).all(|step| plain.at_step(step, 5) > 0.0));
    }

    #[test]
    fn constants_are_checked() {
        let wrong = [
            r#"{"kind": "step", "milestones": [0.6, 0.4], "factor": 0.1}"#,
            r#"{"kind": "step", "milestones": [0.0], "factor": 0.1}"#,
            r#"{"kind": "step", "milestones": [0.5], "factor": 0.0}"#,
            r#"{"kind": "cosine", "warmup": 1.0}"#,
            r#"{"kind": "cosine", "floor": -0.1}"#,
        ];
        for text in wrong {
            let schedule: Schedule = serde_json::from_str(text).expect("parses");
            assert!(schedule.check().is_err(), "{text}");
        }
        for text in [
            r#"{"kind": "constant", "floor": 0}"#,
            r#"{"kind": "cosine", "flor": 0}"#,
        ] {
            assert!(serde_json::from_str::<Schedule>(text).is_err(), "{text}");
        }
        let schedule: Schedule = serde_json::from_str(r#"{"kind": "constant"}"#).expect("parses");
        assert!(schedule.check().is_ok());
        assert_eq!(schedule.factor(0.3), 1.0);
    }
}
