//! Real, synthetic and rebuilt images, class by class.

use anyhow::Result;
use candle_core::Tensor;

use super::grid::{Picture, grid};
use super::rows;
use crate::stages::Context;
use crate::stages::attack;
use crate::stages::{VariantOutcome, load_synthetic};

/// Images of one class shown per source.
const SHOWN: usize = 4;

/// Strips of images: one row per class, one column per source.
#[derive(Debug, Clone)]
pub struct Pictures {
    /// What each column shows.
    pub columns: Vec<String>,
    /// Name of each class.
    pub classes: Vec<String>,
    /// `strips[class][column]`; none where there is no image.
    pub strips: Vec<Vec<Option<Picture>>>,
}

struct Column {
    name: String,
    images: Tensor,
    classes: Vec<u32>,
}

impl Column {
    /// The first images of a class, `[N, C, H, W]`.
    fn of_class(&self, class: u32, count: usize) -> Result<Option<Tensor>> {
        let rows: Vec<u32> = (0u32..)
            .zip(&self.classes)
            .filter(|(_, c)| **c == class)
            .map(|(row, _)| row)
            .take(count)
            .collect();
        if rows.is_empty() {
            return Ok(None);
        }
        Ok(Some(self.images.index_select(
            &Tensor::new(rows, self.images.device())?,
            0,
        )?))
    }
}

impl Pictures {
    /// Of one variant.
    ///
    /// # Errors
    /// An artefact that cannot be read.
    pub fn of(ctx: &Context, outcome: &VariantOutcome) -> Result<Self> {
        let columns = columns(ctx, outcome)?;
        let classes = &ctx.data.set.class_names;
        let strips = (0..classes.len() as u32)
            .map(|class| {
                let strip = |column: &Column| match column.of_class(class, SHOWN)? {
                    Some(images) => Ok(Some(grid(&images, SHOWN)?)),
                    None => Ok(None),
                };
                columns.iter().map(strip).collect::<Result<Vec<_>>>()
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Self {
            columns: columns.into_iter().map(|column| column.name).collect(),
            classes: classes.clone(),
            strips,
        })
    }
}

/// Name of the drawing of a variant's `what`, `images` or `accuracy`, beside the evidence of stem `stem`: without the variant's
/// name for the headline.
pub fn drawing_name(stem: &str, variant: Option<&str>, what: &str) -> String {
    match variant {
        Some(variant) => format!("{stem}-{variant}-{what}.svg"),
        None => format!("{stem}-{what}.svg"),
    }
}

/// One drawing (SVG) with a row per class, of the first ten at most, and two images per source, that names both.
///
/// # Errors
/// An artefact that cannot be read.
pub fn overview(ctx: &Context, outcome: &VariantOutcome) -> Result<String> {
    const EACH: usize = 2;
    const CLASSES: usize = 10;
    let columns = columns(ctx, outcome)?;
    let mut rows = Vec::new();
    for class in 0..ctx.data.set.classes().min(CLASSES) as u32 {
        let mut row = Vec::new();
        for column in &columns {
            let (_, c, h, w) = column.images.dims4()?;
            let white = Tensor::ones(
                (EACH, c, h, w),
                candle_core::DType::F32,
                column.images.device(),
            )?;
            row.push(match column.of_class(class, EACH)? {
                Some(found) => Tensor::cat(&[found, white], 0)?.narrow(0, 0, EACH)?,
                None => white,
            });
        }
        rows.push(Tensor::cat(&row, 0)?);
    }
    let names: Vec<String> = columns.iter().map(|column| column.name.clone()).collect();
    let classes = &ctx.data.set.class_names[..rows.len()];
    super::overview::svg(&names, classes, |shown| {
        grid(&Tensor::cat(&rows[..shown], 0)?, EACH * columns.len())
    })
}

fn columns(ctx: &Context, outcome: &VariantOutcome) -> Result<Vec<Column>> {
    let set = &ctx.data.set;
    // enough to hold every class, as the order is class-balanced
    let limit = (SHOWN * set.classes() * 4).min(set.test.len());
    let (images, labels) = crate::data::Data::images(&set.test, limit)?;
    let synthetic = load_synthetic(outcome)?;
    let mut columns = vec![
        Column {
            name: "real (test)".into(),
            images,
            classes: labels.to_vec1()?,
        },
        Column {
            name: "synthetic".into(),
            images: synthetic.images,
            classes: synthetic.classes.to_vec1()?,
        },
    ];
    for one in &outcome.attacked {
        let pictures = attack::load(one)?;
        let attack = match one.attack {
            "back_conversion" => "A1",
            _ => "A2",
        };
        columns.push(Column {
            name: format!("{attack} on {}", rows::target_name(one.target)),
            images: pictures.images,
            classes: pictures.classes.to_vec1()?,
        });
    }
    Ok(columns)
}
