//! Optimisers whose state can be saved, with PyTorch's update rules.

mod device;
mod host;

use std::collections::BTreeMap;

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Which update rule, with its constants. `g` is the gradient, `w` the weight, `a` the learning rate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum OptimiserConfig {
    /// Stochastic gradient descent: `g += weight_decay w`, `u = momentum u + g`, `w -= a u`
    /// (Nesterov: `w -= a (g + momentum u)`).
    Sgd {
        /// Share of the former update, in `[0, 1)`. Default 0.9.
        #[serde(default = "default_momentum")]
        momentum: f64,
        /// L2 penalty, added to the gradient. Default 5e-4.
        #[serde(default = "default_weight_decay")]
        weight_decay: f64,
        /// Looks one update ahead; needs momentum.
        #[serde(default)]
        nesterov: bool,
    },
    /// Adam (Kingma, Ba 2015): `m = beta1 m + (1 - beta1) g`, `v = beta2 v + (1 - beta2) g^2`,
    /// `w -= a (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + epsilon)`.
    Adam {
        /// Decay of the mean, in `[0, 1)`. Default 0.9.
        #[serde(default = "default_beta1")]
        beta1: f64,
        /// Decay of the mean square, in `[0, 1)`. Default 0.999.
        #[serde(default = "default_beta2")]
        beta2: f64,
        /// Added to the root; positive. Default 1e-8.
        #[serde(default = "default_epsilon")]
        epsilon: f64,
        /// L2 penalty added to the gradient, or the decay of AdamW; see `decoupled`. Default 0.
        #[serde(default)]
        weight_decay: f64,
        /// AdamW (Loshchilov, Hutter 2019): `w *= 1 - a weight_decay` instead of a term in the gradient.
        #[serde(default)]
        decoupled: bool,
        /// AMSGrad (Reddi et al. 2018): the largest `v` so far in place of `v`.
        #[serde(default)]
        amsgrad: bool,
    },
}

fn default_momentum() -> f64 {
    0.9
}
fn default_weight_decay() -> f64 {
    5e-4
}
fn default_beta1() -> f64 {
    0.9
}
fn default_beta2() -> f64 {
    0.999
}
fn default_epsilon() -> f64 {
    1e-8
}

impl OptimiserConfig {
    /// SGD with momentum 0.9 and weight decay 5e-4, the authors' setting for the source network.
    pub fn sgd() -> Self {
        Self::Sgd {
            momentum: default_momentum(),
            weight_decay: default_weight_decay(),
            nesterov: false,
        }
    }

    /// Adam with its usual constants, without weight decay.
    pub fn adam() -> Self {
        Self::Adam {
            beta1: default_beta1(),
            beta2: default_beta2(),
            epsilon: default_epsilon(),
            weight_decay: 0.0,
            decoupled: false,
            amsgrad: false,
        }
    }

    /// Checks the constants.
    ///
    /// # Errors
    /// The first constant outside its domain, by name.
    pub fn check(&self) -> Result<()> {
        let share = |name: &'static str, value: f64| match (0.0..1.0).contains(&value) {
            true => Ok(()),
            false => Err(Error::argument(
                name,
                format!("must be in [0, 1), got {value}"),
            )),
        };
        let not_negative = |name: &'static str, value: f64| match value.is_finite() && value >= 0.0
        {
            true => Ok(()),
            false => Err(Error::argument(
                name,
                format!("must be zero or positive, got {value}"),
            )),
        };
        match *self {
            Self::Sgd {
                momentum,
                weight_decay,
                nesterov,
            } => {
                share("optimiser.momentum", momentum)?;
                not_negative("optimiser.weight_decay", weight_decay)?;
                if nesterov && momentum == 0.0 {
                    return Err(Error::argument(
                        "optimiser.nesterov",
                        "needs a momentum above 0",
                    ));
                }
                Ok(())
            }
            Self::Adam {
                beta1,
                beta2,
                epsilon,
                weight_decay,
                ..
            } => {
                share("optimiser.beta1", beta1)?;
                share("optimiser.beta2", beta2)?;
                // the update is in f32: what rounds to zero there makes 0 / 0 of a weight that has had no gradient
                if !(epsilon.is_finite() && epsilon as f32 > 0.0) {
                    let message = format!("must be positive in f32, got {epsilon}");
                    return Err(Error::argument("optimiser.epsilon", message));
                }
                not_negative("optimiser.weight_decay", weight_decay)
            }
        }
    }

    /// Names of the moments that the rule keeps per weight.
    fn moments(&self) -> &'static [&'static str] {
        match *self {
            Self::Sgd { momentum: 0.0, .. } => &[],
            Self::Sgd { .. } => &["momentum"],
            Self::Adam { amsgrad: false, .. } => &["m", "v"],
            Self::Adam { amsgrad: true, .. } => &["m", "v", "vmax"],
        }
    }

    /// The constants of step `t`, counted from 1.
    fn rule(&self, t: u64, learning_rate: f64, gradient_scale: f64) -> Rule {
        match *self {
            Self::Sgd {
                momentum,
                weight_decay,
                nesterov,
            } => Rule {
                gradient_scale,
                rate: learning_rate,
                l2: weight_decay,
                shrink: 1.0,
                kind: RuleKind::Sgd { momentum, nesterov },
            },
            Self::Adam {
                beta1,
                beta2,
                epsilon,
                weight_decay,
                decoupled,
                ..
            } => {
                // beyond 2^31 steps both corrections are 1
                let t = t.min(i32::MAX as u64) as i32;
                Rule {
                    gradient_scale,
                    rate: learning_rate / (1.0 - beta1.powi(t)),
                    l2: if decoupled { 0.0 } else { weight_decay },
                    shrink: if decoupled {
                        1.0 - learning_rate * weight_decay
                    } else {
                        1.0
                    },
                    kind: RuleKind::Adam {
                        beta1,
                        beta2,
                        epsilon,
                        root_correction: (1.0 - beta2.powi(t)).sqrt(),
                    },
                }
            }
        }
    }
}

/// One step's update with every constant worked out.
#[derive(Debug, Clone, Copy)]
struct Rule {
    gradient_scale: f64,
    rate: f64,
    l2: f64,
    shrink: f64,
    kind: RuleKind,
}

#[derive(Debug, Clone, Copy)]
enum RuleKind {
    Sgd {
        momentum: f64,
        nesterov: bool,
    },
    Adam {
        beta1: f64,
        beta2: f64,
        epsilon: f64,
        root_correction: f64,
    },
}

/// An optimiser over named variables. On the CPU one parallel pass over the raw data does the whole update; on other
/// devices it is made of tensor operations.
#[derive(Debug)]
pub struct Optimiser {
    config: OptimiserConfig,
    step: u64,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    name: String,
    variable: Var,
    moments: Moments,
}

impl Entry {
    /// Whether `gradient` can be the variable's.
    fn check(&self, gradient: &Tensor) -> Result<()> {
        let alike = gradient.shape() == self.variable.shape()
            && gradient.dtype() == DType::F32
            && gradient.device().same_device(self.variable.device());
        if alike {
            return Ok(());
        }
        Err(Error::argument(
            "gradients",
            format!(
                "`{}` is f32 {:?} on {:?}, its gradient {:?} {:?} on {:?}",
                self.name,
                self.variable.dims(),
                self.variable.device().location(),
                gradient.dtype(),
                gradient.dims(),
                gradient.device().location()
            ),
        ))
    }
}

#[derive(Debug)]
enum Moments {
    Host(Vec<Vec<f32>>),
    Device(Vec<Tensor>),
}

/// Where the gradients of named variables are found.
pub trait Gradients {
    /// The gradient of `variable`, whose name is `name`; none if it takes no part in the loss.
    fn of(&self, name: &str, variable: &Var) -> Option<&Tensor>;
}

/// Those of a graph.
impl Gradients for GradStore {
    fn of(&self, _name: &str, variable: &Var) -> Option<&Tensor> {
        self.get(variable.as_tensor())
    }
}

/// By name.
impl Gradients for BTreeMap<String, Tensor> {
    fn of(&self, name: &str, _variable: &Var) -> Option<&Tensor> {
        self.get(name)
    }
}

/// Name of the step count in [`Optimiser::state`].
const STEP: &str = "step";

impl Optimiser {
    /// An optimiser whose moments are zero.
    ///
    /// # Errors
    /// A constant outside its domain; a variable that is not f32; two variables of one name.
    pub fn new(config: OptimiserConfig, variables: Vec<(String, Var)>) -> Result<Self> {
        config.check()?;
        let mut entries: Vec<Entry> = Vec::with_capacity(variables.len());
        for (name, variable) in variables {
            if variable.dtype() != DType::F32 {
                let message = format!("`{name}` must be f32, got {:?}", variable.dtype());
                return Err(Error::argument("variables", message));
            }
            if entries.iter().any(|entry| entry.name == name) {
                return Err(Error::argument(
                    "variables",
                    format!("`{name}` comes twice"),
                ));
            }
            let count = config.moments().len();
            let moments = match variable.device() {
                Device::Cpu => Moments::Host(vec![vec![0.0; variable.elem_count()]; count]),
                _ => Moments::Device(
                    (0..count)
                        .map(|_| variable.as_detached_tensor().zeros_like())
                        .collect::<candle_core::Result<_>>()?,
                ),
            };
            entries.push(Entry {
                name,
                variable,
                moments,
            });
        }
        Ok(Self {
            config,
            step: 0,
            entries,
        })
    }

    /// The rule and its constants.
    pub fn config(&self) -> &OptimiserConfig {
        &self.config
    }

    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// One update of every variable that has a gradient; the others and their moments stay as they are.
    ///
    /// # Errors
    /// A learning rate that is negative or not finite; a gradient of another shape, type or device than its variable.
    /// Then no variable and no moment has changed, and the step does not count.
    pub fn step(&mut self, gradients: &impl Gradients, learning_rate: f64) -> Result<()> {
        self.step_scaled(gradients, learning_rate, 1.0)
    }

    /// The same with every gradient multiplied by `gradient_scale` on the way; see [`Optimiser::clip_scale`].
    ///
    /// # Errors
    /// Those of [`Optimiser::step`].
    pub fn step_scaled(
        &mut self,
        gradients: &impl Gradients,
        learning_rate: f64,
        gradient_scale: f64,
    ) -> Result<()> {
        if !(learning_rate.is_finite() && learning_rate >= 0.0) {
            let message = format!("must be zero or positive, got {learning_rate}");
            return Err(Error::argument("learning_rate", message));
        }
        for entry in &self.entries {
            if let Some(gradient) = gradients.of(&entry.name, &entry.variable) {
                entry.check(gradient)?;
            }
        }
        self.step += 1;
        let rule = self.config.rule(self.step, learning_rate, gradient_scale);
        for entry in &mut self.entries {
            let Some(gradient) = gradients.of(&entry.name, &entry.variable) else {
                continue;
            };
            let gradient = gradient.detach().contiguous()?;
            match &mut entry.moments {
                Moments::Host(moments) => host::update(&rule, &entry.variable, &gradient, moments)?,
                Moments::Device(moments) => {
                    device::update(&rule, &entry.variable, &gradient, moments)?
                }
            }
        }
        Ok(())
    }

    /// Euclidean norm of all gradients of this optimiser's variables together. The sum is in f64 and in fixed order.
    ///
    /// # Errors
    /// A gradient that is not f32.
    pub fn gradient_norm(&self, gradients: &impl Gradients) -> Result<f64> {
        let mut sum = 0.0;
        for entry in &self.entries {
            if let Some(gradient) = gradients.of(&entry.name, &entry.variable) {
                sum += host::sum_of_squares(&gradient.to_device(&Device::Cpu)?.contiguous()?)?;
            }
        }
        Ok(sum.sqrt())
    }

    /// Factor that brings the gradients' norm down to `limit`, at most 1.
    ///
    /// # Errors
    /// A limit that is not above 0; those of [`Optimiser::gradient_norm`].
    pub fn clip_scale(&self, gradients: &impl Gradients, limit: f64) -> Result<f64> {
        if limit.is_nan() || limit <= 0.0 {
            let message = format!("must be positive, got {limit}");
            return Err(Error::argument("limit", message));
        }
        let norm = self.gradient_norm(gradients)?;
        Ok(if norm > limit { limit / norm } else { 1.0 })
    }

    /// Everything that the next step depends on besides the variables: the moments as `"{moment}.{variable}"` with
    /// moment `momentum` (SGD) or `m`, `v`, `vmax` (Adam), and the number of steps as `"step"`, `[1]` i64.
    ///
    /// # Errors
    /// A device that does not give its tensors away.
    pub fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut state = BTreeMap::new();
        let step = i64::try_from(self.step)
            .map_err(|_| Error::argument("step", "does not fit into 63 bits"))?;
        state.insert(
            STEP.to_string(),
            Tensor::from_vec(vec![step], 1, &Device::Cpu)?,
        );
        for entry in &self.entries {
            for (index, moment) in self.config.moments().iter().enumerate() {
                let tensor = match &entry.moments {
                    Moments::Host(moments) => {
                        Tensor::from_slice(&moments[index], entry.variable.shape(), &Device::Cpu)?
                    }
                    Moments::Device(moments) => moments[index].to_device(&Device::Cpu)?,
                };
                state.insert(format!("{moment}.{}", entry.name), tensor);
            }
        }
        Ok(state)
    }

    /// Takes what [`Optimiser::state`] gave, exactly.
    ///
    /// # Errors
    /// A tensor missing, superfluous, of another shape or type, or with a value that is not finite.
    pub fn restore(&mut self, mut state: BTreeMap<String, Tensor>) -> Result<()> {
        let wrong = |message: String| Error::argument("optimiser state", message);
        let missing =
            |key: &str| Error::argument("optimiser state", format!("tensor `{key}` is missing"));
        let step: Vec<i64> = state
            .remove(STEP)
            .ok_or_else(|| missing(STEP))?
            .flatten_all()?
            .to_vec1()?;
        let [step] = step[..] else {
            return Err(wrong(format!(
                "`{STEP}` must be one number, got {}",
                step.len()
            )));
        };
        let step = u64::try_from(step)
            .map_err(|_| wrong(format!("`{STEP}` must not be negative, got {step}")))?;
        let mut all = Vec::with_capacity(self.entries.len());
        for entry in &self.entries {
            let mut tensors = Vec::new();
            for moment in self.config.moments() {
                let key = format!("{moment}.{}", entry.name);
                let tensor = state.remove(&key).ok_or_else(|| missing(&key))?;
                if tensor.shape() != entry.variable.shape() || tensor.dtype() != DType::F32 {
                    return Err(wrong(format!(
                        "`{key}` must be f32 {:?}, got {:?} {:?}",
                        entry.variable.dims(),
                        tensor.dtype(),
                        tensor.dims()
                    )));
                }
                let values: Vec<f32> = tensor.flatten_all()?.to_vec1()?;
                if values.iter().any(|value| !value.is_finite()) {
                    return Err(wrong(format!("`{key}` holds a value that is not finite")));
                }
                tensors.push((tensor, values));
            }
            all.push(tensors);
        }
        if let Some(key) = state.keys().next() {
            return Err(wrong(format!(
                "tensor `{key}` does not belong to this optimiser"
            )));
        }
        for (entry, tensors) in self.entries.iter_mut().zip(all) {
            entry.moments = match entry.variable.device() {
                Device::Cpu => {
                    Moments::Host(tensors.into_iter().map(|(_, values)| values).collect())
                }
                device => Moments::Device(
                    tensors
                        .into_iter()
                        .map(|(tensor, _)| tensor.to_device(device))
                        .collect::<candle_core::Result<_>>()?,
                ),
            };
        }
        self.step = step;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configs() -> Vec<OptimiserConfig> {
        let adam = |weight_decay, decoupled, amsgrad| OptimiserConfig::Adam {
            beta1: 0.8,
            beta2: 0.95,
            epsilon: 1e-6,
            weight_decay,
            decoupled,
            amsgrad,
        };
        let sgd = |momentum, weight_decay, nesterov| OptimiserConfig::Sgd {
            momentum,
            weight_decay,
            nesterov,
        };
        vec![
            sgd(0.0, 0.0, false),
            sgd(0.9, 0.1, false),
            sgd(0.9, 0.1, true),
            adam(0.0, false, false),
            adam(0.1, false, true),
            adam(0.1, true, true),
        ]
    }

    /// The fused pass and the tensor operations are twins.
    #[test]
    fn host_and_device_agree() -> Result<()> {
        for config in configs() {
            let seed = snn_core::rng::Seed::new(3);
            let first = seed.derive("w").normal(&[129], 0.0, 1.0, &Device::Cpu)?;
            let (a, b) = (Var::from_tensor(&first)?, Var::from_tensor(&first.copy()?)?);
            let mut host = vec![vec![0f32; 129]; config.moments().len()];
            let zeros = a.as_detached_tensor().zeros_like()?;
            let mut device = vec![zeros; config.moments().len()];
            for t in 1..=5 {
                let gradient = seed.index(t).normal(&[129], 0.0, 1.0, &Device::Cpu)?;
                let rule = config.rule(t, 0.05, 0.7);
                host::update(&rule, &a, &gradient, &mut host)?;
                device::update(&rule, &b, &gradient, &mut device)?;
            }
            let error = (a.as_tensor() - b.as_tensor())?
                .abs()?
                .max_all()?
                .to_scalar::<f32>()?;
            assert!(error < 2e-6, "{config:?}: {error}");
            let moved = (a.as_tensor() - &first)?
                .abs()?
                .max_all()?
                .to_scalar::<f32>()?;
            assert!(moved > 0.05, "{config:?}: {moved}");
        }
        Ok(())
    }

    #[test]
    fn restored_optimiser_goes_on_alike() -> Result<()> {
        for config in configs() {
            let values = [1f32, -2.0, 3.0];
            let run = |break_at: Option<usize>| -> Result<Vec<f32>> {
                let w = Var::new(&values, &Device::Cpu)?;
                let mut optimiser = Optimiser::new(config, vec![("w".into(), w.clone())])?;
                for i in 0..6 {
                    if break_at == Some(i) {
                        let state = optimiser.state()?;
                        optimiser = Optimiser::new(config, vec![("w".into(), w.clone())])?;
                        optimiser.restore(state)?;
                        assert_eq!(optimiser.steps(), i as u64);
                    }
                    let gradients = w.as_tensor().sqr()?.sum_all()?.backward()?;
                    optimiser.step(&gradients, 0.1)?;
                }
                Ok(w.as_detached_tensor().to_vec1()?)
            };
            assert_eq!(run(None)?, run(Some(3))?);
        }
        Ok(())
    }

    #[test]
    fn restore_refuses_what_does_not_fit() -> Result<()> {
        let w = Var::new(&[1f32, 2.0], &Device::Cpu)?;
        let mut optimiser = Optimiser::new(OptimiserConfig::adam(), vec![("w".into(), w)])?;
        let good = optimiser.state()?;
        let mut check = |change: &dyn Fn(&mut BTreeMap<String, Tensor>), expected: &str| {
            let mut state = good.clone();
            change(&mut state);
            let message = optimiser.restore(state).expect_err("refused").to_string();
            assert!(message.contains(expected), "{message}");
        };
        check(&|s| drop(s.remove("m.w")), "`m.w` is missing");
        check(&|s| drop(s.remove("step")), "`step` is missing");
        let tensor = |values: &[f32]| Tensor::new(values, &Device::Cpu).expect("a tensor");
        check(
            &|s| drop(s.insert("v.w".into(), tensor(&[1.0]))),
            "`v.w` must be",
        );
        check(
            &|s| drop(s.insert("v.w".into(), tensor(&[1.0, f32::NAN]))),
            "not finite",
        );
        check(
            &|s| drop(s.insert("vmax.w".into(), tensor(&[1.0, 1.0]))),
            "does not belong",
        );
        Ok(())
    }

    #[test]
    fn constants_are_checked() {
        let wrong = [
            OptimiserConfig::Sgd {
                momentum: 1.0,
                weight_decay: 0.0,
                nesterov: false,
            },
            OptimiserConfig::Sgd {
                momentum: 0.0,
                weight_decay: 0.0,
                nesterov: true,
            },
            OptimiserConfig::Sgd {
                momentum: 0.0,
                weight_decay: f64::NAN,
                nesterov: false,
            },
        ];
        // the last rounds to zero in f32
        let epsilons = [0.0, -1e-8, f64::NAN, f64::INFINITY, 1e-50];
        let adams = epsilons.map(|epsilon| OptimiserConfig::Adam {
            beta1: 0.9,
            beta2: 0.999,
            epsilon,
            weight_decay: 0.0,
            decoupled: false,
            amsgrad: false,
        });
        for config in wrong.into_iter().chain(adams) {
            assert!(Optimiser::new(config, Vec::new()).is_err(), "{config:?}");
        }
        let unknown = serde_json::from_str::<OptimiserConfig>(r#"{"kind": "adam", "beta3": 1}"#);
        assert!(unknown.is_err_and(|e| e.to_string().contains("beta3")));
    }

    #[test]
    fn clipping_brings_the_norm_down() -> Result<()> {
        let w = Var::new(&[3f32, 4.0], &Device::Cpu)?;
        let optimiser = Optimiser::new(OptimiserConfig::sgd(), vec![("w".into(), w.clone())])?;
        let gradients = (w.as_tensor().sqr()?.sum_all()? * 0.5)?.backward()?;
        assert_eq!(optimiser.gradient_norm(&gradients)?, 5.0);
        assert_eq!(optimiser.clip_scale(&gradients, 1.0)?, 0.2);
        assert_eq!(optimiser.clip_scale(&gradients, 10.0)?, 1.0);
        for limit in [0.0, -1.0, f64::NAN] {
            assert!(optimiser.clip_scale(&gradients, limit).is_err(), "{limit}");
        }
        Ok(())
    }

    #[test]
    fn a_refused_step_changes_nothing() -> Result<()> {
        let variable = |values: &[f32]| Var::new(values, &Device::Cpu);
        let (a, b) = (variable(&[1.0, 2.0])?, variable(&[3.0])?);
        let variables = vec![("a".into(), a.clone()), ("b".into(), b.clone())];
        let mut optimiser = Optimiser::new(OptimiserConfig::adam(), variables)?;
        let ones = |n: usize, dtype| Tensor::ones(n, dtype, &Device::Cpu);
        for wrong in [ones(2, DType::F32)?, ones(1, DType::F64)?] {
            let gradients = BTreeMap::from([
                ("a".to_string(), ones(2, DType::F32)?),
                ("b".to_string(), wrong),
            ]);
            let refused = optimiser.step(&gradients, 0.1).expect_err("a misfit");
            assert!(refused.to_string().contains("`b`"), "{refused}");
            assert_eq!(a.as_detached_tensor().to_vec1::<f32>()?, [1.0, 2.0]);
            assert_eq!(optimiser.steps(), 0);
            let moment: Vec<f32> = optimiser.state()?["m.a"].to_vec1()?;
            assert_eq!(moment, [0.0, 0.0]);
        }
        Ok(())
    }
}
