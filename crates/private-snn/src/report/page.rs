//! `report.html`: the sections of a report, one after another.

use serde_json::Value;

use super::html::{escape, whole};
use super::paper::Paper;
use super::pictures::Pictures;
use super::sections;

/// The page of a report; `pictures` by variant.
pub fn page(report: &Value, paper: Option<&Paper>, pictures: &[(String, Pictures)]) -> String {
    let title = report["title"].as_str().unwrap_or("private-snn");
    let mut body = String::new();
    sections::headline(&mut body, report, paper);
    sections::accuracy(&mut body, report);
    sections::leakage(&mut body, report);
    sections::pictures(&mut body, pictures);
    sections::energy(&mut body, report);
    sections::training(&mut body, report);
    sections::conversion(&mut body, report);
    sections::threat_model(&mut body);
    sections::scaled_down(&mut body, report);
    sections::provenance(&mut body, report);
    whole(title, &format!("<h1>{}</h1>\n{body}", escape(title)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_page_is_whole_even_of_an_empty_report() {
        let html = page(
            &json!({"title": "<script>", "variants": {"a": {}}}),
            None,
            &[],
        );
        assert!(html.starts_with("<!DOCTYPE html>") && html.ends_with("</html>\n"));
        assert!(!html.contains("<script>"));
        for tag in ["table", "figure", "section", "tr", "div"] {
            let count = |text: &str| html.matches(text).count();
            assert_eq!(
                count(&format!("<{tag}>")) + count(&format!("<{tag} ")),
                count(&format!("</{tag}>")),
                "{tag}"
            );
        }
        assert!(
            !html.contains("http://")
                || html.matches("http://").count()
                    == html.matches("http://www.w3.org/2000/svg").count()
        );
    }
}
