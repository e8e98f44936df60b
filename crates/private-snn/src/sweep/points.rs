//! What a chart of a sweep is drawn over: the choices of settings, and for a key that is changed alone the run that changes
//! none.

use serde_json::{Number, Value};

use super::plan::NONE_CHANGED;
use super::record::{Record, plain};
use super::table::Row;

/// A choice of settings.
pub struct Point<'a> {
    /// Its runs.
    pub row: &'a Row<'a>,
    /// The value of its only key, if that is a number.
    pub number: Option<f64>,
    /// Its values in words.
    pub name: String,
}

impl<'a> Point<'a> {
    /// Of runs with values of their own.
    pub fn new(row: &'a Row<'a>) -> Self {
        let values = &row.first().assignments;
        let only = values.values().next().filter(|_| values.len() == 1);
        Self {
            row,
            number: only.and_then(Value::as_f64),
            name: row.first().values(),
        }
    }
}

/// The runs that change `key`, before them those that change none unless their value is among the others'; and that value
/// in words, if the experiment's settings tell it.
pub fn of_key<'a>(
    record: &Record,
    key: &str,
    rows: &'a [Row<'a>],
) -> (Vec<Point<'a>>, Option<String>) {
    let value = |row: &Row| row.first().assignments.get(key).cloned();
    let present = present(record, key);
    let listed = rows.iter().filter_map(value);
    let listed = present
        .as_ref()
        .and_then(|present| listed.into_iter().find(|value| same(value, present)));
    let shown = listed.as_ref().or(present.as_ref()).map(plain);
    let unchanged = rows
        .iter()
        .find(|row| row.first().assignments.is_empty() && listed.is_none())
        .map(|row| Point {
            row,
            number: present.as_ref().and_then(Value::as_f64),
            name: shown.clone().unwrap_or_else(|| NONE_CHANGED.into()),
        });
    let changed = rows
        .iter()
        .filter(|row| value(row).is_some())
        .map(Point::new);
    (unchanged.into_iter().chain(changed).collect(), shown)
}

/// The value of a key in the experiment's settings.
fn present(record: &Record, key: &str) -> Option<Value> {
    let Value::String(variant) = &record.header.sweep["variant"] else {
        return None;
    };
    let settings = &record.header.settings;
    let at = |root: &Value| {
        root.pointer(&format!("/{}", key.replace('.', "/")))
            .cloned()
    };
    at(&settings["variants"][variant])
        .or_else(|| at(settings))
        .filter(|value| !value.is_null())
        .map(short)
}

/// The value with those of its numbers that come from single precision as they were written: 0.3, not 0.300000011921.
fn short(value: Value) -> Value {
    match value {
        Value::Object(map) => map
            .into_iter()
            .map(|(key, value)| (key, short(value)))
            .collect(),
        Value::Array(values) => values.into_iter().map(short).collect(),
        Value::Number(number) if number.is_f64() => {
            let double = number.as_f64().unwrap_or_default();
            let single = double as f32;
            let is_single = (f64::from(single) - double).abs() <= double.abs() * 1e-10;
            let written = single.to_string().parse().ok().filter(|_| is_single);
            written.and_then(Number::from_f64).unwrap_or(number).into()
        }
        other => other,
    }
}

/// Whether two values are one, however their numbers are written.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter()
                    .all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::record;
    use super::super::table::rows;
    use super::*;
    use serde_json::json;

    /// Runs of one key and one that changes none, of an experiment with the given value.
    fn each(values: &[Value], present: &Value) -> Record {
        let mut record = record(values.len() + 1, &(0..=values.len()).collect::<Vec<_>>());
        for entry in &mut record.runs {
            let value = entry
                .index
                .checked_sub(1)
                .map(|index| values[index].clone());
            entry.assignments = value
                .map(|value| ("a.b".to_string(), value))
                .into_iter()
                .collect();
        }
        record.header.sweep = json!({"variant": "mine"});
        record.header.settings = json!({"variants": {"mine": {"a": {"b": present}}}});
        record
    }

    fn names(record: &Record) -> (Vec<String>, Option<String>) {
        let rows = rows(record);
        let (points, present) = of_key(record, "a.b", &rows);
        (
            points.into_iter().map(|point| point.name).collect(),
            present,
        )
    }

    #[test]
    fn the_run_that_changes_nothing_stands_among_those_that_do() {
        let record = each(&[json!(2), json!(4)], &json!(1));
        assert_eq!(
            names(&record),
            (["1", "2", "4"].map(String::from).to_vec(), Some("1".into()))
        );
        let rows = rows(&record);
        let numbers = of_key(&record, "a.b", &rows)
            .0
            .into_iter()
            .map(|point| point.number);
        assert_eq!(
            numbers.collect::<Vec<_>>(),
            [Some(1.0), Some(2.0), Some(4.0)]
        );
    }

    #[test]
    fn it_is_not_there_twice() {
        let single = json!({"kind": "line", "scale": f64::from(0.3f32)});
        let record = each(
            &[
                json!({"kind": "line", "scale": 0.3}),
                json!({"kind": "line", "scale": 1.0}),
            ],
            &single,
        );
        let expected = ["line scale 0.3", "line scale 1.0"]
            .map(String::from)
            .to_vec();
        assert_eq!(names(&record), (expected, Some("line scale 0.3".into())));
    }

    #[test]
    fn numbers_are_as_they_were_written() {
        // as records hold them: with twelve digits
        assert_eq!(
            short(json!([0.300000011921, 0.9, 1e-5, 3])),
            json!([0.3, 0.9, 1e-5, 3])
        );
        assert!(same(&json!({"a": [2]}), &json!({"a": [2.0]})));
        assert!(!same(&json!({"a": 2}), &json!({"a": 2, "b": 1})));
    }

    #[test]
    fn a_value_that_the_settings_do_not_tell_is_no_number() {
        let record = each(&[json!(2)], &Value::Null);
        assert_eq!(
            names(&record),
            (vec![NONE_CHANGED.to_string(), "2".into()], None)
        );
    }
}
