//! With the feature `cuda`: compiles the kernels' texts to PTX, each named by its folder, in `OUT_DIR`.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    #[cfg(feature = "cuda")]
    if let Err(message) = kernels::compile() {
        eprintln!("{message}");
        std::process::exit(1);
    }
}

#[cfg(feature = "cuda")]
mod kernels {
    use std::path::{Path, PathBuf};
    use std::process::Command;

    /// The folders under `src` that have a `kernel.cu`.
    const FOLDERS: [&str; 3] = ["encode", "ops/conv2d", "ops/neuron"];

    /// The compiler and the architecture are those that candle's own kernels are compiled with.
    pub fn compile() -> Result<(), String> {
        for variable in [
            "CUDA_COMPUTE_CAP",
            "NVCC",
            "NVCC_CCBIN",
            "CUDA_HOME",
            "CUDA_PATH",
        ] {
            println!("cargo:rerun-if-env-changed={variable}");
        }
        let nvcc = cudaforge::CudaToolkit::detect()
            .map_err(|e| format!("the feature cuda needs nvcc: {e}"))?
            .nvcc_path;
        let capability = cudaforge::detect_compute_cap()
            .map_err(|e| {
                format!("set CUDA_COMPUTE_CAP to the card's, for example 90 for 9.0: {e}")
            })?
            .base();
        let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
        for folder in FOLDERS {
            let folder = Path::new("src").join(folder);
            let source = folder.join("kernel.cu");
            println!("cargo:rerun-if-changed={}", source.display());
            let name = folder.file_name().ok_or("a folder has a name")?;
            let ptx = out.join(name).with_extension("ptx");
            run(&nvcc, capability, &source, &ptx)?;
        }
        Ok(())
    }

    fn run(nvcc: &Path, capability: usize, source: &Path, ptx: &Path) -> Result<(), String> {
        let mut command = Command::new(nvcc);
        command
            .args(["--ptx", "-O3", "-std=c++17"])
            // each operation rounds once, as on the CPU: the same spikes
            .arg("--fmad=false")
            .arg(format!("--gpu-architecture=compute_{capability}"))
            .arg("--output-file")
            .arg(ptx)
            .arg(source);
        if let Some(compiler) = std::env::var_os("NVCC_CCBIN") {
            command.arg("--compiler-bindir").arg(compiler);
        }
        let output = command
            .output()
            .map_err(|e| format!("{}: {e}", nvcc.display()))?;
        if output.status.success() {
            return Ok(());
        }
        Err(format!(
            "{command:?}: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        ))
    }
}
