//! Settings of a record that its file has no more.

use serde_json::{Map, Value};

/// Names of the settings that differ between what a record was made with and what its file has now, those in one of them
/// alone included; titles aside, which change no figure. Dotted; lists are compared whole.
pub fn changed(recorded: &Value, now: &Value) -> Vec<String> {
    let none = Value::Object(Map::new());
    let recorded = if recorded.is_object() {
        recorded
    } else {
        &none
    };
    let mut names = Vec::new();
    compare("", recorded, now, &mut names);
    names
}

fn compare(name: &str, recorded: &Value, now: &Value, names: &mut Vec<String>) {
    let (Value::Object(recorded), Value::Object(now)) = (recorded, now) else {
        if recorded != now {
            names.push(name.to_string());
        }
        return;
    };
    let only_now = now.keys().filter(|key| !recorded.contains_key(*key));
    for key in recorded.keys().chain(only_now) {
        if key == "title" {
            continue;
        }
        let of = |map: &Map<String, Value>| map.get(key).cloned().unwrap_or_default();
        let name = match name {
            "" => key.clone(),
            outer => format!("{outer}.{key}"),
        };
        compare(&name, &of(recorded), &of(now), names);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_differs_is_named() {
        let recorded = json!({"title": "A", "encrypt": {"epochs": 4, "old": 1}, "windows": [1, 2], "same": {"a": null}});
        let now = json!({"title": "B", "encrypt": {"epochs": 5, "new": true}, "windows": [1], "same": {}});
        assert_eq!(
            changed(&recorded, &now),
            ["encrypt.epochs", "encrypt.old", "encrypt.new", "windows"]
        );
        assert!(changed(&now, &now).is_empty());
        let titled = json!({"title": "A", "windows": [1]});
        assert!(changed(&titled, &json!({"windows": [1]})).is_empty());
        for recorded in [json!({"encrypt": {}}), Value::Null] {
            assert_eq!(changed(&recorded, &json!({"encrypt": 1})), ["encrypt"]);
        }
    }
}
