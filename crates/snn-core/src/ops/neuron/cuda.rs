//! The scan on CUDA: one thread per neuron, one kernel per direction.

use std::sync::{Arc, Mutex};

use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaView, DeviceRepr, PushKernelArg};
use candle_core::cuda_backend::{CudaDevice, CudaStorage};
use candle_core::{CpuStorage, CustomOp3, Layout, Shape, Tensor};

use super::Output;
use crate::Result;
use crate::neuron::{Firing, NeuronSettings, Reset, Scan};
use crate::ops::cuda::{self, Kernel};
use crate::surrogate::Surrogate;

const MODULE: (&str, &str) = (
    "snn-core-neuron",
    include_str!(concat!(env!("OUT_DIR"), "/neuron.ptx")),
);

/// Steps whose membranes a thread holds, as in the kernel.
const STEPS: usize = 16;

/// A pointer to nothing.
const NONE: u64 = 0;

/// What the kernels are told of a scan, field for field as there.
#[derive(Clone, Copy)]
#[repr(C)]
struct Settings {
    steps: u32,
    neurons: u32,
    plane: u32,
    channels: u32,
    hard: u32,
    at: u32,
    leak: f32,
    through_reset: f32,
    surrogate: f32,
}

// SAFETY: plain numbers in the layout of the kernel's structure.
unsafe impl DeviceRepr for Settings {}

impl Settings {
    fn new(
        currents: &[usize],
        thresholds: usize,
        settings: &NeuronSettings,
    ) -> candle_core::Result<Self> {
        Ok(Self {
            steps: cuda::size("steps", currents[0])?,
            neurons: cuda::size("neurons", currents[1..].iter().product())?,
            plane: cuda::size("positions", currents[3..].iter().product())?,
            channels: cuda::size("thresholds", thresholds)?,
            hard: u32::from(settings.reset == Reset::Hard),
            at: u32::from(settings.firing == Firing::AtOrAbove),
            leak: settings.leak,
            through_reset: if settings.detach_reset { 0.0 } else { 1.0 },
            surrogate: match settings.surrogate {
                Surrogate::PiecewiseLinear { scale } => scale,
                Surrogate::Atan { alpha } | Surrogate::Sigmoid { alpha } => alpha,
                Surrogate::Rectangular { width } => width,
                Surrogate::SuperSpike { beta } => beta,
            },
        })
    }
}

/// [`super::scan`] for f32 tensors on a CUDA device.
pub(super) fn scan(
    currents: &Tensor,
    threshold: &Tensor,
    membrane: &Tensor,
    settings: &NeuronSettings,
) -> Result<Scan> {
    let currents = currents.contiguous()?;
    let threshold = threshold.detach().contiguous()?;
    let membrane = membrane.contiguous()?;
    let tracked = currents.track_op() || membrane.track_op();
    let (device, done) = cuda::with_values(&currents, |device, i| {
        cuda::with_values(&threshold, |_, threshold| {
            cuda::with_values(&membrane, |_, v| {
                let settings = Settings::new(currents.dims(), threshold.len(), settings)?;
                let done = forward(device, settings, [&i, &threshold, &v], tracked)?;
                Ok((device.clone(), done))
            })
        })
    })?;
    if !tracked {
        return Ok(Scan {
            spikes: cuda::tensor(done.spikes, currents.shape(), &device),
            membrane: cuda::tensor(done.last, membrane.shape(), &device),
        });
    }
    let kept = Arc::new(done.kept);
    let node = |values: CudaSlice<f32>, output: Output| {
        let node = Node {
            settings: *settings,
            output,
            values: Mutex::new(Some(values)),
            kept: kept.clone(),
        };
        currents.apply_op3(&threshold, &membrane, node)
    };
    Ok(Scan {
        spikes: node(done.spikes, Output::Spikes)?,
        membrane: node(done.last, Output::Membrane)?,
    })
}

/// What a pass forward leaves.
struct Done {
    spikes: CudaSlice<f32>,
    /// Membranes after the last step.
    last: CudaSlice<f32>,
    /// Membranes before every [`STEPS`]-th step but the first, if a backward pass may need them.
    kept: Option<CudaSlice<f32>>,
}

fn forward(
    device: &CudaDevice,
    settings: Settings,
    [currents, threshold, membrane]: [&CudaView<f32>; 3],
    tracked: bool,
) -> candle_core::Result<Done> {
    let neurons = membrane.len();
    let kept = (currents.len() / neurons - 1) / STEPS * neurons;
    // SAFETY: the kernel below writes all of them.
    let (mut spikes, mut last, mut kept) = unsafe {
        (
            cuda::room(device, currents.len())?,
            cuda::room(device, neurons)?,
            match tracked && kept > 0 {
                true => Some(cuda::room(device, kept)?),
                false => None,
            },
        )
    };
    let kernel = Kernel::new(device, MODULE, "neuron_scan_forward")?;
    let mut arguments = kernel.arguments();
    arguments.arg(currents).arg(threshold).arg(membrane);
    arguments.arg(&mut spikes).arg(&mut last);
    match &mut kept {
        Some(kept) => arguments.arg(kept),
        None => arguments.arg(&NONE),
    };
    arguments.arg(&settings);
    // SAFETY: a thread per neuron; the buffers have the sizes that the settings say.
    unsafe { cuda::launch(arguments, cuda::blocks(settings.neurons), 1)? };
    Ok(Done { spikes, last, kept })
}

/// A result of a scan as a node of the graph over (currents, threshold, membrane before the first step).
struct Node {
    settings: NeuronSettings,
    output: Output,
    /// The result, until the node takes it.
    values: Mutex<Option<CudaSlice<f32>>>,
    /// Shared by both results.
    kept: Arc<Option<CudaSlice<f32>>>,
}

impl Node {
    /// Gradients of the currents and of the membrane before the first step.
    fn backward(
        &self,
        device: &CudaDevice,
        [currents, threshold, membrane]: [&CudaView<f32>; 3],
        settings: Settings,
        gradient: &CudaView<f32>,
    ) -> candle_core::Result<[CudaSlice<f32>; 2]> {
        // SAFETY: the kernel below writes all of them.
        let (mut g_currents, mut g_membrane) = unsafe {
            (
                cuda::room(device, currents.len())?,
                cuda::room(device, membrane.len())?,
            )
        };
        let kernel = Kernel::new(
            device,
            MODULE,
            match self.settings.surrogate {
                Surrogate::PiecewiseLinear { .. } => "neuron_scan_backward_piecewise_linear",
                Surrogate::Atan { .. } => "neuron_scan_backward_atan",
                Surrogate::Sigmoid { .. } => "neuron_scan_backward_sigmoid",
                Surrogate::Rectangular { .. } => "neuron_scan_backward_rectangular",
                Surrogate::SuperSpike { .. } => "neuron_scan_backward_super_spike",
            },
        )?;
        let mut arguments = kernel.arguments();
        arguments.arg(currents).arg(threshold).arg(membrane);
        match &*self.kept {
            Some(kept) => arguments.arg(kept),
            None => arguments.arg(&NONE),
        };
        match self.output {
            Output::Spikes => arguments.arg(gradient).arg(&NONE),
            Output::Membrane => arguments.arg(&NONE).arg(gradient),
        };
        arguments.arg(&mut g_currents).arg(&mut g_membrane);
        arguments.arg(&settings);
        // SAFETY: a thread per neuron; the buffers have the sizes that the settings say, and where there is more than
        // one block of steps the forward pass has kept the membranes between them.
        unsafe { cuda::launch(arguments, cuda::blocks(settings.neurons), 1)? };
        Ok([g_currents, g_membrane])
    }
}

impl CustomOp3 for Node {
    fn name(&self) -> &'static str {
        "neuron-scan"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        candle_core::bail!("a CUDA kernel was given a tensor on another device")
    }

    fn cuda_fwd(
        &self,
        currents: &CudaStorage,
        l_currents: &Layout,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        l_membrane: &Layout,
    ) -> candle_core::Result<(CudaStorage, Shape)> {
        let shape = match self.output {
            Output::Spikes => l_currents.shape(),
            Output::Membrane => l_membrane.shape(),
        };
        let values = (self.values.lock().unwrap_or_else(|e| e.into_inner())).take();
        let Some(values) = values else {
            candle_core::bail!("the result of a neuron scan was taken twice");
        };
        let storage = CudaStorage::wrap_cuda_slice(values, currents.device.clone());
        Ok((storage, shape.clone()))
    }

    fn bwd(
        &self,
        currents: &Tensor,
        threshold: &Tensor,
        membrane: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let settings = Settings::new(currents.dims(), threshold.elem_count(), &self.settings)?;
        let [g_currents, g_membrane] = cuda::with_values(currents, |device, i| {
            cuda::with_values(threshold, |_, threshold| {
                cuda::with_values(membrane, |_, v| {
                    cuda::with_values(gradient, |_, g| {
                        let [g_i, g_v] =
                            self.backward(device, [&i, &threshold, &v], settings, &g)?;
                        Ok([
                            cuda::tensor(g_i, currents.shape(), device),
                            cuda::tensor(g_v, membrane.shape(), device),
                        ])
                    })
                })
            })
        })?;
        Ok((
            currents.track_op().then_some(g_currents),
            None,
            membrane.track_op().then_some(g_membrane),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::STEPS;

    #[test]
    fn the_kernel_holds_as_many_steps() {
        let line = format!("constexpr unsigned STEPS = {STEPS};");
        assert!(include_str!("kernel.cu").contains(&line), "{line}");
    }
}
