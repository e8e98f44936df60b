//! What a reconstruction gives away, measured with a judge: a network of another architecture trained on the real data.

pub mod features;
pub mod fid;
pub mod judged;
pub mod likeness;
pub mod nearest;
pub mod ssim;
pub mod windows;

pub use features::Features;
pub use fid::{Anchored, frechet_distance};
pub use judged::{Judged, judge};
pub use likeness::{Gauge, Likeness};
pub use nearest::{Nearest, nearest};
pub use ssim::ssim;
pub use windows::{Windows, mirrored};
