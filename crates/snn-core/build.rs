//! With the feature `cuda`: compiles each `kernel.cu` under `src` to PTX, named by its folder, in `OUT_DIR`.

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

    /// The compiler and the architecture are those that candle's own kernels are compiled with.
    pub fn compile() -> Result<(), String> {
        for variable in ["CUDA_COMPUTE_CAP", "NVCC", "NVCC_CCBIN", "CUDA_HOME"] {
            println!("cargo:rerun-if-env-changed={variable}");
        }
        println!("cargo:rerun-if-changed=src");
        let nvcc = cudaforge::CudaToolkit::detect()
            .map_err(|e| format!("the feature cuda needs nvcc: {e}"))?
            .nvcc_path;
        let capability = cudaforge::detect_compute_cap()
            .map_err(|e| {
                format!("set CUDA_COMPUTE_CAP to the card's, for example 90 for 9.0: {e}")
            })?
            .base();
        let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
        let mut sources = Vec::new();
        find(Path::new("src"), &mut sources).map_err(|e| format!("src: {e}"))?;
        for source in sources {
            let name = (source.parent())
                .and_then(Path::file_name)
                .ok_or_else(|| format!("{}: in no folder", source.display()))?;
            let ptx = out.join(name).with_extension("ptx");
            run(&nvcc, capability, &source, &ptx)?;
        }
        Ok(())
    }

    fn find(folder: &Path, sources: &mut Vec<PathBuf>) -> std::io::Result<()> {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                find(&path, sources)?;
            } else if path.ends_with("kernel.cu") {
                sources.push(path);
            }
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
