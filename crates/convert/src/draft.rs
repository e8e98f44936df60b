//! The spiking network in the making: weights and thresholds brought to spikes of magnitude 1.

use std::collections::BTreeMap;

use ann::Ann;
use candle_core::{Device, Tensor};
use snn_core::{Layer, Parameters, SpikingNetwork, SpikingSettings, Topology};

use crate::fold::as_f64;
use crate::{Error, Result};

/// What a value 1 in the spiking network stands for in the source network: one factor, or one per channel.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Unit {
    Layer(f64),
    Channel(Vec<f64>),
}

impl Unit {
    pub fn values(&self) -> &[f64] {
        match self {
            Unit::Layer(value) => std::slice::from_ref(value),
            Unit::Channel(values) => values,
        }
    }

    /// The factor as a single number: the geometric mean over channels.
    pub fn mean(&self) -> f64 {
        match self {
            Unit::Layer(value) => *value,
            Unit::Channel(values) => {
                (values.iter().map(|v| v.ln()).sum::<f64>() / values.len() as f64).exp()
            }
        }
    }

    /// Through a flattening of `[C, H, W]` to `[C * H * W]`.
    pub fn flattened(self, positions: usize) -> Self {
        match self {
            Unit::Channel(values) => Unit::Channel(
                values
                    .into_iter()
                    .flat_map(|v| std::iter::repeat_n(v, positions))
                    .collect(),
            ),
            layer => layer,
        }
    }
}

/// Walks the folded source network from the input to the class scores, one population at a time.
pub(crate) struct Draft<'a> {
    source: &'a Ann,
    shapes: Vec<Vec<usize>>,
    tensors: BTreeMap<String, Tensor>,
    thresholds: BTreeMap<usize, Tensor>,
    /// What a spike of each population found so far stands for.
    lambdas: BTreeMap<usize, Unit>,
    unit: Unit,
    next: usize,
}

impl<'a> Draft<'a> {
    pub fn new(source: &'a Ann) -> Self {
        Self {
            source,
            shapes: source.topology().shapes(),
            tensors: BTreeMap::new(),
            thresholds: BTreeMap::new(),
            lambdas: BTreeMap::new(),
            unit: Unit::Layer(1.0),
            next: 0,
        }
    }

    pub fn topology(&self) -> &'a Topology {
        self.source.topology()
    }

    pub fn device(&self) -> Device {
        self.source.parameters().device()
    }

    pub fn weight(&self, layer: usize) -> &Tensor {
        &self.tensors[&format!("{layer}.weight")]
    }

    pub fn bias(&self, layer: usize) -> Option<&Tensor> {
        self.tensors.get(&format!("{layer}.bias"))
    }

    pub fn shortcut_scale(&self, layer: usize) -> &Tensor {
        &self.tensors[&format!("{layer}.scale")]
    }

    pub fn threshold(&self, population: usize) -> &Tensor {
        &self.thresholds[&population]
    }

    /// Unit of the currents that enter the population found last, or of the class scores.
    pub fn current_unit(&self) -> f64 {
        self.unit.mean()
    }

    /// Scales the layers up to the next population and gives its index; none after the last.
    pub fn next_population(&mut self) -> Result<Option<usize>> {
        let topology = self.topology();
        while self.next < topology.layers().len() {
            let index = self.next;
            self.next += 1;
            match &topology.layers()[index] {
                Layer::Activation { .. } => return Ok(Some(index)),
                Layer::Flatten => {
                    let positions = match index {
                        0 => topology.input()[1..].iter().product(),
                        _ => self.shapes[index - 1][1..].iter().product(),
                    };
                    self.unit = self.unit.clone().flattened(positions);
                }
                Layer::Shortcut { from, .. } => self.scale_shortcut(index, *from)?,
                layer if layer.is_weighted() => self.scale(index)?,
                _ => {}
            }
        }
        Ok(None)
    }

    /// `W' = W diag(unit) / g`, `b' = b / g` with g the geometric mean of the unit. Where the unit is one number, the
    /// weight is the source's own, bit for bit.
    fn scale(&mut self, layer: usize) -> Result<()> {
        let weight = self.source.parameters().weight(layer)?;
        let mean = self.unit.mean();
        let scaled = match &self.unit {
            Unit::Layer(_) => weight.clone(),
            Unit::Channel(values) => {
                let factors: Vec<f32> = values.iter().map(|v| (v / mean) as f32).collect();
                let mut shape = vec![1; weight.rank()];
                shape[1] = factors.len();
                let factors = Tensor::from_vec(factors, shape, weight.device())?;
                weight.broadcast_mul(&factors)?
            }
        };
        self.tensors.insert(format!("{layer}.weight"), scaled);
        if let Some(bias) = self.source.parameters().bias(layer) {
            let values: Vec<f32> = as_f64(bias)?
                .into_iter()
                .map(|b| (b / mean) as f32)
                .collect();
            self.tensors
                .insert(format!("{layer}.bias"), Tensor::new(values, bias.device())?);
        }
        self.unit = Unit::Layer(mean);
        Ok(())
    }

    /// `scale' = scale lambda / g`: a spike of population `from` stands for `lambda`, and the currents that it is added to
    /// have the unit `g`.
    fn scale_shortcut(&mut self, layer: usize, from: usize) -> Result<()> {
        let current = self.current_unit();
        let lambda = self.lambdas[&from].values();
        let scale = self.source.parameters().scale(layer)?;
        let values: Vec<f32> = as_f64(scale)?
            .into_iter()
            .zip(lambda.iter().cycle())
            .map(|(scale, lambda)| (scale * lambda / current) as f32)
            .collect();
        let scale = Tensor::new(values, scale.device())?;
        self.tensors.insert(format!("{layer}.scale"), scale);
        Ok(())
    }

    /// Sets the threshold of the population found last, in units of the source network's activation: from here on one
    /// spike stands for that much.
    pub fn set_threshold(&mut self, population: usize, lambda: Unit) -> Result<()> {
        let current = self.current_unit();
        let values: Vec<f32> = lambda
            .values()
            .iter()
            .map(|v| (v / current) as f32)
            .collect();
        if let Some(bad) = values.iter().find(|v| !(v.is_finite() && **v > 0.0)) {
            return Err(Error::threshold(
                population,
                format!("its threshold would be {bad}, not a positive number"),
            ));
        }
        self.thresholds
            .insert(population, Tensor::new(values, &self.device())?);
        self.lambdas.insert(population, lambda.clone());
        self.unit = lambda;
        Ok(())
    }

    /// Sets the thresholds of all populations, by index of the activation layer.
    pub fn set_all(&mut self, mut lambdas: BTreeMap<usize, Unit>) -> Result<()> {
        while let Some(population) = self.next_population()? {
            let lambda = lambdas
                .remove(&population)
                .ok_or_else(|| Error::layer(self.topology(), population, "has no threshold"))?;
            self.set_threshold(population, lambda)?;
        }
        Ok(())
    }

    /// The finished network; every population must have been found and given its threshold.
    pub fn finish(self, settings: SpikingSettings) -> Result<SpikingNetwork> {
        let settings = SpikingSettings {
            readout_scale: self.unit.mean(),
            ..settings
        };
        let topology = self.source.topology().spiking();
        let parameters = Parameters::new(&topology, self.tensors)?;
        Ok(SpikingNetwork::new(
            topology,
            parameters,
            self.thresholds,
            settings,
        )?)
    }
}
