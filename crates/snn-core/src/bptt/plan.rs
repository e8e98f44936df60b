//! A network cut at its populations.

use super::between::{Between, Change};
use super::convolution::Convolution;
use super::weighted::Weighted;
use crate::dropout;
use crate::network::{Batch, Mode, SpikingNetwork};
use crate::ops::shortcut::Maps;
use crate::topology::Layer;
use crate::{Error, Result};

/// What lies between two populations, before the first one, or after the last one.
#[derive(Debug)]
pub(super) struct Segment {
    /// From the input on; the first is a [`Link::Between`], perhaps one that changes nothing.
    pub(super) links: Vec<Link>,
    /// What is added to the currents of the population at its end.
    pub(super) shortcuts: Vec<Shortcut>,
    /// Index of the population's layer at its end and its shape `[C, ...]`; none after the last one.
    pub(super) population: Option<(usize, Vec<usize>)>,
}

/// Spikes of an earlier population beside the links.
#[derive(Debug)]
pub(super) struct Shortcut {
    /// Segment at whose end the population is.
    pub(super) from: usize,
    pub(super) maps: Maps,
}

#[derive(Debug)]
pub(super) enum Link {
    Between(Between),
    Weighted(Weighted),
}

impl Link {
    pub(super) fn is_weighted(&self) -> bool {
        matches!(self, Self::Weighted(_))
    }
}

impl Segment {
    /// The segments of a network.
    pub(super) fn all(network: &SpikingNetwork, mode: Mode) -> Result<Vec<Self>> {
        let topology = network.topology();
        let shapes = topology.shapes();
        let map = |shape: &[usize]| [shape[0], shape[1], shape[2]];
        let mut segments: Vec<Self> = Vec::new();
        let mut shortcuts = Vec::new();
        let mut input = topology.input().to_vec();
        let mut links = vec![Link::Between(Between::new(&input))];
        for (index, layer) in topology.layers().iter().enumerate() {
            let mut change = |change: Change| match links.last_mut() {
                Some(Link::Between(between)) => between.push(change),
                _ => {
                    let mut between = Between::new(&input);
                    between.push(change);
                    links.push(Link::Between(between));
                }
            };
            match *layer {
                Layer::Activation { .. } => {
                    segments.push(Self {
                        links: std::mem::take(&mut links),
                        shortcuts: std::mem::take(&mut shortcuts),
                        population: Some((index, shapes[index].clone())),
                    });
                    links = vec![Link::Between(Between::new(&shapes[index]))];
                }
                Layer::Dropout { probability } => {
                    if mode == Mode::Training {
                        change(Change::Mask { index, probability });
                    }
                }
                Layer::AvgPool2d { kernel } => change(Change::Pool { kernel }),
                Layer::Flatten => change(Change::Flatten),
                Layer::Conv2d {
                    stride, padding, ..
                } => {
                    let convolution = Convolution {
                        input: map(&input),
                        output: map(&shapes[index]),
                        stride,
                        padding,
                    };
                    links.push(Link::Weighted(Weighted::conv2d(index, convolution)));
                }
                Layer::Shortcut { from, kernel, .. } => {
                    let is_from = |segment: &Self| {
                        let population = segment.population.as_ref();
                        population.is_some_and(|(layer, _)| *layer == from)
                    };
                    let segment = segments.iter().position(is_from);
                    shortcuts.push(Shortcut {
                        from: segment.expect("an activation before it, by Topology::new"),
                        maps: Maps {
                            scale: network.parameters().scale(index)?.to_vec1()?,
                            kernel,
                            shape: map(&input),
                        },
                    });
                }
                Layer::Linear { .. } => links.push(Link::Weighted(Weighted::linear(index))),
                _ => unreachable!("refused by SpikingNetwork::new"),
            }
            input.clone_from(&shapes[index]);
        }
        segments.push(Self {
            links,
            shortcuts,
            population: None,
        });
        Ok(segments)
    }

    /// Whether the spikes at the end of segment `from` reach its population beside its links.
    pub(super) fn takes(&self, from: usize) -> bool {
        self.shortcuts.iter().any(|shortcut| shortcut.from == from)
    }

    /// Whether it has a weight.
    pub(super) fn is_weighted(&self) -> bool {
        self.links.iter().any(Link::is_weighted)
    }

    /// The dropout masks of its links, drawn again: for each link its masks in order, `[N, ...]` each.
    pub(super) fn masks(&self, batch: Batch) -> Result<Vec<Vec<Vec<f32>>>> {
        let of_link = |link: &Link| match link {
            Link::Between(between) => between.masks(batch),
            Link::Weighted(_) => Ok(Vec::new()),
        };
        self.links.iter().map(of_link).collect()
    }
}

/// The dropout mask of layer `index`, as [`SpikingNetwork::advance`] draws it.
pub(super) fn mask(
    batch: Batch,
    index: usize,
    shape: &[usize],
    probability: f64,
) -> Result<Vec<f32>> {
    let seed = batch.seed.derive("dropout").index(index as u64);
    let device = batch.images.device();
    let mask = dropout::mask(batch.ids, shape, probability, seed, device)?;
    mask.flatten_all()?.to_vec1().map_err(Error::from)
}
