//! The tensors of a network by name.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor, Var};

use crate::topology::{Topology, is_trained};
use crate::{Error, Result};

/// Tensors named `"{layer}.{tensor}"`, such as `"0.weight"`; f32, on one device.
#[derive(Debug, Clone, Default)]
pub struct Parameters(BTreeMap<String, Tensor>);

impl Parameters {
    /// Takes exactly the tensors that the topology names.
    ///
    /// # Errors
    /// A tensor missing, superfluous, of another shape or type, with a value that is not finite, or a variance below 0;
    /// the message names the layer, if there is one.
    pub fn new(topology: &Topology, tensors: BTreeMap<String, Tensor>) -> Result<Self> {
        let expected = topology.tensor_shapes();
        let layer_error = |name: &str, message: String| {
            let index = name.split('.').next().and_then(|i| i.parse().ok());
            match index.and_then(|i: usize| Some((i, topology.layers().get(i)?))) {
                Some((index, layer)) => Error::Layer {
                    index,
                    kind: layer.kind(),
                    message,
                },
                None => Error::argument("parameters", message),
            }
        };
        for (name, shape) in &expected {
            let Some(tensor) = tensors.get(name) else {
                return Err(layer_error(name, format!("tensor `{name}` is missing")));
            };
            if tensor.dims() != shape.as_slice() || tensor.dtype() != DType::F32 {
                return Err(layer_error(
                    name,
                    format!(
                        "tensor `{name}` must be f32 {shape:?}, got {:?} {:?}",
                        tensor.dtype(),
                        tensor.dims()
                    ),
                ));
            }
            if !is_finite(tensor)? {
                return Err(layer_error(
                    name,
                    format!("tensor `{name}` holds a value that is not finite"),
                ));
            }
            if name.ends_with(".running_var") {
                let least = tensor.min_all()?.to_scalar::<f32>()?;
                if least < 0.0 {
                    return Err(layer_error(
                        name,
                        format!("tensor `{name}` holds the negative variance {least}"),
                    ));
                }
            }
        }
        if tensors.len() != expected.len() {
            let name = tensors
                .keys()
                .find(|name| !expected.iter().any(|(e, _)| e == *name))
                .expect("more tensors than expected, so one is unexpected");
            return Err(layer_error(
                name,
                format!("tensor `{name}` does not belong to the topology"),
            ));
        }
        Ok(Self(tensors))
    }

    /// The tensor `"{layer}.{name}"`, if there is one.
    pub fn get(&self, layer: usize, name: &str) -> Option<&Tensor> {
        self.0.get(&format!("{layer}.{name}"))
    }

    /// The weight of a layer that [`crate::Layer::is_weighted`].
    ///
    /// # Errors
    /// A layer without.
    pub fn weight(&self, layer: usize) -> Result<&Tensor> {
        self.get(layer, "weight")
            .ok_or_else(|| Error::argument("layer", format!("layer {layer} has no weight")))
    }

    /// The bias of a layer, if it has one.
    pub fn bias(&self, layer: usize) -> Option<&Tensor> {
        self.get(layer, "bias")
    }

    /// The trained threshold of an activation layer that has one.
    ///
    /// # Errors
    /// A layer without.
    pub fn threshold(&self, layer: usize) -> Result<&Tensor> {
        self.get(layer, "threshold").ok_or_else(|| {
            Error::argument("layer", format!("layer {layer} has no trained threshold"))
        })
    }

    /// Names and tensors in name order.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Tensor)> {
        self.0.iter()
    }

    /// The tensors by name.
    pub fn tensors(&self) -> &BTreeMap<String, Tensor> {
        &self.0
    }

    /// The factors of a shortcut.
    ///
    /// # Errors
    /// Another layer.
    pub fn scale(&self, layer: usize) -> Result<&Tensor> {
        self.get(layer, "scale")
            .ok_or_else(|| Error::argument("layer", format!("layer {layer} is no shortcut")))
    }

    /// A copy whose trained tensors (weights, biases, batch norm's scales and shifts, thresholds; neither running
    /// statistics nor the scales of shortcuts) are variables, and those variables by name. Setting a variable changes the copy.
    ///
    /// # Errors
    /// A tensor that cannot be copied, for want of memory on its device.
    pub fn trainable(&self) -> Result<(Self, Vec<(String, Var)>)> {
        let mut tensors = BTreeMap::new();
        let mut variables = Vec::new();
        for (name, tensor) in &self.0 {
            if !is_trained(name) {
                tensors.insert(name.clone(), tensor.copy()?);
            } else {
                let variable = Var::from_tensor(&tensor.copy()?)?;
                tensors.insert(name.clone(), variable.as_tensor().clone());
                variables.push((name.clone(), variable));
            }
        }
        Ok((Self(tensors), variables))
    }

    /// The same with its trained tensors as variables, and these by name: those that are variables already are not copied.
    pub(crate) fn over_variables(&self) -> Result<(Self, Vec<(String, Var)>)> {
        let mut tensors = self.0.clone();
        let mut variables = Vec::with_capacity(self.0.len());
        for (name, tensor) in &mut tensors {
            if is_trained(name) {
                let variable = Var::from_tensor(tensor)?;
                *tensor = variable.as_tensor().clone();
                variables.push((name.clone(), variable));
            }
        }
        Ok((Self(tensors), variables))
    }

    /// The same tensors outside any graph; memory is shared with the variables, if they are.
    pub fn detached(&self) -> Self {
        Self(
            self.0
                .iter()
                .map(|(name, tensor)| (name.clone(), tensor.detach()))
                .collect(),
        )
    }

    /// A copy that no graph and no variable refers to.
    ///
    /// # Errors
    /// A tensor that cannot be copied, for want of memory on its device.
    pub fn frozen(&self) -> Result<Self> {
        let copy = |(name, tensor): (&String, &Tensor)| -> Result<_> {
            Ok((name.clone(), tensor.detach().copy()?))
        };
        Ok(Self(self.0.iter().map(copy).collect::<Result<_>>()?))
    }

    /// Replaces a tensor by one of the same shape (running statistics, for example).
    ///
    /// # Errors
    /// A name that no tensor of the layer has, or a tensor of another shape.
    pub fn replace(&mut self, layer: usize, name: &str, tensor: Tensor) -> Result<()> {
        let key = format!("{layer}.{name}");
        match self.0.get_mut(&key) {
            Some(slot) if slot.shape() == tensor.shape() => {
                *slot = tensor;
                Ok(())
            }
            _ => Err(Error::argument(
                "replace",
                format!("there is no tensor `{key}` of shape {:?}", tensor.dims()),
            )),
        }
    }

    /// The same tensors on another device.
    ///
    /// # Errors
    /// A device that does not take the tensors.
    pub fn to_device(&self, device: &Device) -> Result<Self> {
        let moved = |(name, tensor): (&String, &Tensor)| -> Result<_> {
            Ok((name.clone(), tensor.to_device(device)?))
        };
        Ok(Self(self.0.iter().map(moved).collect::<Result<_>>()?))
    }

    /// The device of the tensors.
    pub fn device(&self) -> Device {
        self.0
            .values()
            .next()
            .map_or(Device::Cpu, |tensor| tensor.device().clone())
    }
}

/// Whether all numbers of an f32 tensor are finite.
///
/// # Errors
/// A tensor of another type.
pub fn is_finite(tensor: &Tensor) -> Result<bool> {
    // a NaN or an infinity times zero is a NaN, which the sum keeps
    let residue = (tensor.detach() * 0.0)?.sum_all()?.to_scalar::<f32>()?;
    Ok(residue == 0.0)
}
