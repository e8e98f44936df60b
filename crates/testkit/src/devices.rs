use candle_core::Device;

/// The devices a test runs on: the CPU, and the first GPU if the `cuda` feature is on.
///
/// # Panics
/// If the feature is on and the GPU cannot be used: a comparison with nothing would pass.
pub fn devices() -> Vec<Device> {
    let mut devices = vec![Device::Cpu];
    match Device::cuda_if_available(0) {
        Ok(Device::Cpu) => {}
        Ok(gpu) => devices.push(gpu),
        Err(error) => panic!(
            "built for CUDA, but there is no GPU to be used ({error}); test without the `cuda` feature"
        ),
    }
    devices
}
