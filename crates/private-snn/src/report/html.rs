//! Markup: text made safe, tables, figures, and the page around them, which opens offline.

use std::fmt::Write;

const STYLE: &str = "\
:root{color-scheme:light}\
body{margin:0 auto;max-width:64rem;padding:1rem;background:#fff;color:#111827;font:16px/1.5 system-ui,sans-serif}\
h1{font-size:1.6rem;line-height:1.25}h2{font-size:1.25rem;margin-top:2.5rem;border-bottom:1px solid #d1d5db}\
h3{font-size:1.05rem;margin-top:1.5rem}\
.scroll{overflow-x:auto}\
table{border-collapse:collapse;font-size:.95rem}caption{text-align:left;font-size:.9rem;color:#374151;padding-bottom:.3rem}\
th,td{padding:.3rem .6rem;border-bottom:1px solid #e5e7eb;text-align:right;vertical-align:top}\
th:first-child,td:first-child{text-align:left}thead th{border-bottom:2px solid #111827}\
td.text{text-align:left}\
figure{margin:1rem 0}figcaption{font-size:.9rem;color:#374151}\
svg{width:100%;height:auto;max-width:48rem}\
img{image-rendering:pixelated;max-width:none;display:block}\
.grids td{text-align:left;padding:.15rem .35rem}\
pre{overflow-x:auto;background:#f3f4f6;padding:.75rem;font-size:.85rem}\
code{overflow-wrap:anywhere}";

/// Text that is safe between tags and inside quoted attributes.
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}

/// A cell of a table.
#[derive(Debug, Clone)]
pub enum Cell {
    /// A figure, to the right.
    Figure(String),
    /// Text, to the left.
    Text(String),
    /// Markup that is safe already.
    Markup(String),
}

impl Cell {
    fn html(&self) -> String {
        match self {
            Cell::Figure(text) => format!("<td>{}</td>", escape(text)),
            Cell::Text(text) => format!("<td class=\"text\">{}</td>", escape(text)),
            Cell::Markup(markup) => format!("<td>{markup}</td>"),
        }
    }
}

/// A table that scrolls sideways by itself on a narrow screen, with a caption if there is one; the first cell of each row
/// is its heading.
pub fn table(class: &str, caption: &str, head: &[String], rows: &[(String, Vec<Cell>)]) -> String {
    let mut html = format!("<div class=\"scroll\"><table class=\"{class}\">");
    if !caption.is_empty() {
        let _ = write!(html, "<caption>{}</caption>", escape(caption));
    }
    html.push_str("<thead><tr>");
    for name in head {
        let _ = write!(html, "<th scope=\"col\">{}</th>", escape(name));
    }
    html.push_str("</tr></thead><tbody>");
    for (name, cells) in rows {
        let _ = write!(html, "<tr><th scope=\"row\">{}</th>", escape(name));
        html.extend(cells.iter().map(Cell::html));
        html.push_str("</tr>");
    }
    html.push_str("</tbody></table></div>");
    html
}

/// A chart with its caption.
pub fn figure(svg: &str, caption: &str) -> String {
    format!(
        "<figure>{svg}<figcaption>{}</figcaption></figure>",
        escape(caption)
    )
}

/// A page around some markup.
pub fn whole(title: &str, body: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{title}</title><style>{STYLE}</style></head>\n<body><main>{body}</main></body></html>\n",
        title = escape(title)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_text_stays_text() {
        assert_eq!(
            escape("<b a=\"x\">&'"),
            "&lt;b a=&quot;x&quot;&gt;&amp;&#39;"
        );
        let html = table(
            "t",
            "<c>",
            &["<h>".into()],
            &[("<r>".into(), vec![Cell::Text("<x>".into())])],
        );
        for tag in ["<c>", "<h>", "<r>", "<x>"] {
            assert!(!html.contains(tag), "{html}");
        }
    }
}
