//! What a run found, for machines and for people.

mod grid;
mod html;
mod json;
mod paper;
mod pictures;
mod png;
mod readme;
mod results;
mod rows;
mod sections;
mod svg;

pub use html::page;
pub use json::{About, build, wall_seconds};
pub use paper::Paper;
pub use pictures::{Pictures, overview};
pub use readme::{Refreshed, refresh};
pub use results::{Results, file_name};
pub use rows::{align_left, summary_table};
