//! Headings, text, tables and figures, written as Markdown or as one page that opens offline.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};

use crate::report::{self, Cell};

/// A part of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Block {
    /// A heading of some level, 1 being the title.
    Heading(usize, String),
    /// Links to the headings of level 2.
    Contents,
    /// A paragraph.
    Text(String),
    /// Rows of cells, each after a name; the head begins with that of the names.
    Table {
        /// Names of the columns.
        head: Vec<String>,
        /// Names of the rows with their cells.
        rows: Vec<(String, Vec<String>)>,
    },
    /// A drawing.
    Figure {
        /// Name of its file in the folder of figures.
        file: String,
        /// What it shows, for those who cannot see it.
        description: String,
        /// What one should know of it.
        caption: String,
    },
}

/// The blocks as Markdown; `figures` is the folder of figures as seen from the file.
pub fn markdown(blocks: &[Block], figures: &str) -> String {
    let mut text = String::new();
    for block in blocks {
        let _ = match block {
            Block::Heading(level, words) => write!(text, "{} {words}\n\n", "#".repeat(*level)),
            Block::Contents => {
                for words in chapters(blocks) {
                    let _ = writeln!(text, "- [{words}](#{})", anchor(words));
                }
                writeln!(text)
            }
            Block::Text(words) => write!(text, "{words}\n\n"),
            Block::Table { head, rows } => {
                let columns = " ---: |".repeat(head.len().saturating_sub(1));
                let _ = write!(text, "| {} |\n| --- |{columns}\n", head.join(" | "));
                for (name, cells) in rows {
                    let _ = writeln!(text, "| {name} | {} |", cells.join(" | "));
                }
                writeln!(text)
            }
            Block::Figure {
                file,
                description,
                caption,
            } => write!(
                text,
                "![{description}]({figures}/{file})\n\n*{caption}*\n\n"
            ),
        };
    }
    text
}

fn chapters(blocks: &[Block]) -> impl Iterator<Item = &str> {
    blocks.iter().filter_map(|block| match block {
        Block::Heading(2, words) => Some(words.as_str()),
        _ => None,
    })
}

/// What a link calls a heading, as GitHub makes it of its words.
fn anchor(heading: &str) -> String {
    let lower = heading.to_lowercase();
    let kept = lower
        .chars()
        .filter(|&c| c.is_alphanumeric() || " -_".contains(c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The blocks as a page with its drawings, which are read from `figures`.
///
/// # Errors
/// A drawing that cannot be read.
pub fn page(title: &str, blocks: &[Block], figures: &Path) -> Result<String> {
    let mut body = String::new();
    for block in blocks {
        match block {
            Block::Heading(level, words) => {
                // deeper ones have the same words in several places
                let id = match level {
                    2 => format!(" id=\"{}\"", anchor(words)),
                    _ => String::new(),
                };
                let words = report::escape(words);
                let _ = write!(body, "<h{level}{id}>{words}</h{level}>");
            }
            Block::Contents => {
                let items = chapters(blocks).map(|words| {
                    let (anchor, words) = (anchor(words), report::escape(words));
                    format!("<li><a href=\"#{anchor}\">{words}</a></li>")
                });
                let _ = write!(body, "<ul>{}</ul>", items.collect::<String>());
            }
            Block::Text(words) => {
                let _ = write!(body, "<p>{}</p>", report::escape(words));
            }
            Block::Table { head, rows } => {
                let rows: Vec<(String, Vec<Cell>)> = rows
                    .iter()
                    .map(|(name, cells)| {
                        let cells = cells.iter().cloned().map(Cell::Figure);
                        (name.clone(), cells.collect())
                    })
                    .collect();
                body.push_str(&report::table("figures", "", head, &rows));
            }
            Block::Figure { file, caption, .. } => {
                let path = figures.join(file);
                let svg =
                    std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
                body.push_str(&report::figure(&svg, caption));
            }
        }
        body.push('\n');
    }
    Ok(report::whole(title, &body))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks() -> Vec<Block> {
        vec![
            Block::Contents,
            Block::Heading(2, "A < B, all".into()),
            Block::Heading(3, "Deeper".into()),
            Block::Text("Words.".into()),
            Block::Table {
                head: vec!["name".into(), "value".into()],
                rows: vec![("one".into(), vec!["1".into()])],
            },
            Block::Figure {
                file: "a.svg".into(),
                description: "lines".into(),
                caption: "Lines.".into(),
            },
        ]
    }

    #[test]
    fn markdown_has_every_block() {
        assert_eq!(
            markdown(&blocks(), "../figures"),
            "- [A < B, all](#a--b-all)\n\n## A < B, all\n\n### Deeper\n\nWords.\n\n| name | value |\n| --- | ---: |\n| one | 1 |\n\n![lines](../figures/a.svg)\n\n*Lines.*\n\n"
        );
    }

    #[test]
    fn a_page_holds_its_drawings() {
        let folder = tempfile::tempdir().unwrap();
        let error = page("t", &blocks(), folder.path()).unwrap_err();
        assert!(format!("{error:#}").contains("a.svg"));
        std::fs::write(folder.path().join("a.svg"), "<svg>drawn</svg>").unwrap();
        let html = page("t", &blocks(), folder.path()).unwrap();
        for part in [
            "<li><a href=\"#a--b-all\">A &lt; B, all</a></li>",
            "<h2 id=\"a--b-all\">A &lt; B, all</h2>",
            "<h3>Deeper</h3>",
            "<p>Words.</p>",
            "<td>1</td>",
            "<svg>drawn</svg>",
            "Lines.",
        ] {
            assert!(html.contains(part), "{part}: {html}");
        }
    }
}
