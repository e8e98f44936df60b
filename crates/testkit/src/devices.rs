use candle_core::Device;

/// The devices a test runs on: the CPU, and the first GPU if the `cuda` feature is on and there is one.
pub fn devices() -> Vec<Device> {
    let mut devices = vec![Device::Cpu];
    if let Ok(gpu @ Device::Cuda(_)) = Device::cuda_if_available(0) {
        devices.push(gpu);
    }
    devices
}
