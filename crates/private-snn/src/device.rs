//! Where to compute, and which profile goes with it.

use anyhow::{Context, Result};
use candle_core::Device;

use crate::cli::DeviceChoice;
use crate::experiment::ExperimentFile;

/// A choice and the reason for it.
#[derive(Debug, Clone)]
pub struct Chosen<T> {
    /// What was chosen.
    pub value: T,
    /// Why, in words.
    pub why: String,
}

/// The device.
///
/// # Errors
/// `--device cuda` where there is none.
pub fn device(choice: DeviceChoice) -> Result<Chosen<Device>> {
    let chosen = |value, why: &str| Chosen {
        value,
        why: why.to_string(),
    };
    match choice {
        DeviceChoice::Cpu => Ok(chosen(Device::Cpu, "asked for")),
        DeviceChoice::Cuda if !cfg!(feature = "cuda") => {
            anyhow::bail!(
                "--device cuda: this program was built without CUDA; build it with --features cuda"
            )
        }
        DeviceChoice::Cuda => Ok(chosen(
            cuda().context("--device cuda: no CUDA device can be used")?,
            "asked for",
        )),
        DeviceChoice::Auto if !cfg!(feature = "cuda") => {
            Ok(chosen(Device::Cpu, "the program was built without CUDA"))
        }
        DeviceChoice::Auto => match cuda() {
            Ok(device) => Ok(chosen(device, "a CUDA device is there")),
            Err(error) => {
                tracing::warn!("no CUDA device can be used: {error:#}");
                Ok(chosen(Device::Cpu, "no CUDA device can be used"))
            }
        },
    }
}

/// The first CUDA device, which keeps the memory of freed tensors.
fn cuda() -> Result<Device> {
    let device = Device::new_cuda(0)?;
    #[cfg(feature = "cuda")]
    snn_core::ops::cuda::keep_freed_memory(&device)?;
    Ok(device)
}

/// The device in words.
pub fn name(device: &Device) -> &'static str {
    if device.is_cuda() { "cuda" } else { "cpu" }
}

/// The profile: the one asked for; `paper` on CUDA and `cpu` elsewhere; the only one if there is only one.
///
/// # Errors
/// A profile that the experiment does not have.
pub fn profile(
    file: &ExperimentFile,
    asked: Option<&str>,
    device: &Device,
) -> Result<Chosen<String>> {
    if let Some(asked) = asked {
        file.profile(asked)?;
        return Ok(Chosen {
            value: asked.to_string(),
            why: "asked for".into(),
        });
    }
    let names: Vec<&str> = file.profiles().map(|(name, _)| name).collect();
    if let [only] = names[..] {
        return Ok(Chosen {
            value: only.to_string(),
            why: "the only one of this experiment".into(),
        });
    }
    let value = if device.is_cuda() { "paper" } else { "cpu" };
    file.profile(value)?;
    Ok(Chosen {
        value: value.to_string(),
        why: format!("the device is {}; --profile chooses another", name(device)),
    })
}
