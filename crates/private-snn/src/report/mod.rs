//! What a run found, for machines and for people.

mod account;
mod curves;
mod document;
mod grid;
mod html;
mod json;
mod overall;
mod overview;
mod paper;
mod pictures;
mod png;
mod refresh;
mod results;
mod rows;
mod sections;
mod svg;
mod verdict;

pub use html::page;
pub use json::{About, build, records};
pub use paper::Paper;
pub use pictures::{Pictures, overview};
pub use refresh::{Places, refresh};
pub(crate) use results::spread;
pub use results::{Results, file_name};
pub(crate) use rows::{Unit, show_spread};
pub use rows::{align_left, summary_table};
pub(crate) use svg::{Chart, Line, Scale};
