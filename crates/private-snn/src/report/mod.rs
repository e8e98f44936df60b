//! What a run found, for machines and for people.

mod bars;
mod curves;
mod grid;
mod html;
mod json;
mod layers;
mod overview;
mod page;
mod paper;
mod pictures;
mod png;
mod results;
mod rows;
mod sections;
mod svg;
mod verdict;

pub(crate) use curves::{Curves, curves};
pub(crate) use html::{Cell, escape, figure, table, whole};
pub use json::{About, build, records};
pub(crate) use layers::{energy_by_layer, energy_chart};
pub use page::page;
pub use paper::Paper;
pub use pictures::{Pictures, drawing_name, overview};
pub(crate) use results::spread;
pub use results::{Results, file_name};
pub(crate) use rows::{
    Row, Unguided, Unit, WEIGHT_CHANGE, figure as row_figure, percent, rows, show, show_spread,
    target_name, unguided,
};
pub use rows::{align_left, summary_table};
pub(crate) use svg::{COLOURS, Chart, Line, Scale, Stroke};
pub(crate) use verdict::{Finding, LOST, Verdict, criterion, lost_much, verdict};
