use candle_core::Device;

/// Set where tests that were built for CUDA are to run on the CPU only.
const WITHOUT_GPU: &str = "PRIVATE_SNN_WITHOUT_GPU";

/// The devices a test runs on: the CPU, and the first GPU if the `cuda` feature is on, unless `PRIVATE_SNN_WITHOUT_GPU` is set.
///
/// # Panics
/// If the feature is on and the GPU cannot be used: a comparison with nothing would pass.
pub fn devices() -> Vec<Device> {
    let mut devices = vec![Device::Cpu];
    if std::env::var_os(WITHOUT_GPU).is_some() {
        println!("skipped on the GPU: {WITHOUT_GPU} is set");
        return devices;
    }
    match Device::cuda_if_available(0) {
        Ok(Device::Cpu) => {}
        Ok(gpu) => devices.push(gpu),
        Err(error) => panic!(
            "built for CUDA, but there is no GPU to be used ({error}); set {WITHOUT_GPU}=1 to test on the CPU only"
        ),
    }
    devices
}
