use candle_core::Device;

/// Set where tests that were built for CUDA are to run on the CPU alone.
const WITHOUT_GPU: &str = "PRIVATE_SNN_WITHOUT_GPU";

/// The devices a test runs on: the CPU, and the first GPU if the `cuda` feature is on.
///
/// # Panics
/// If the feature is on and the GPU cannot be used: a comparison with nothing would pass. With `PRIVATE_SNN_WITHOUT_GPU` set that is
/// said, and the CPU alone.
pub fn devices() -> Vec<Device> {
    let mut devices = vec![Device::Cpu];
    match Device::cuda_if_available(0) {
        Ok(Device::Cpu) => {}
        Ok(gpu) => devices.push(gpu),
        Err(error) if std::env::var_os(WITHOUT_GPU).is_some() => {
            println!("skipped on the GPU ({WITHOUT_GPU} is set): {error}");
        }
        Err(error) => {
            panic!(
                "built for CUDA, but there is no GPU to be used ({error}); set {WITHOUT_GPU}=1 to test the CPU alone"
            )
        }
    }
    devices
}
