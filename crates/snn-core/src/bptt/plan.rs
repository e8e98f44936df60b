//! A network cut at its populations.

use super::between::{Between, Change};
use super::convolution::Convolution;
use super::weighted::Weighted;
use crate::dropout;
use crate::network::{Batch, Mode, SpikingNetwork};
use crate::topology::Layer;
use crate::{Error, Result};

/// What lies between two populations, before the first one, or after the last one.
#[derive(Debug)]
pub(super) struct Segment {
    /// From the input on; the first is a [`Link::Between`], perhaps one that changes nothing.
    pub(super) links: Vec<Link>,
    /// Index of the population's layer at its end and its shape `[C, ...]`; none after the last one.
    pub(super) population: Option<(usize, Vec<usize>)>,
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
    pub(super) fn all(network: &SpikingNetwork, mode: Mode) -> Vec<Self> {
        let topology = network.topology();
        let shapes = topology.shapes();
        let mut segments = Vec::new();
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
                    let map = |shape: &[usize]| [shape[0], shape[1], shape[2]];
                    let convolution = Convolution {
                        input: map(&input),
                        output: map(&shapes[index]),
                        stride,
                        padding,
                    };
                    links.push(Link::Weighted(Weighted::conv2d(index, convolution)));
                }
                Layer::Linear { .. } => links.push(Link::Weighted(Weighted::linear(index))),
                _ => unreachable!("refused by SpikingNetwork::new"),
            }
            input.clone_from(&shapes[index]);
        }
        segments.push(Self {
            links,
            population: None,
        });
        segments
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
