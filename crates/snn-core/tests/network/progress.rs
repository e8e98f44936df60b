use snn_core::Error;
use snn_core::progress::{Flow, report, silent};

#[test]
fn a_wish_to_stop_is_an_error() {
    report(&mut silent, "step", 1, 2, "").expect("nobody stops it");
    let mut seen = Vec::new();
    let mut watch = |p: &snn_core::progress::Progress| {
        seen.push((p.unit.clone(), p.done, p.total));
        Flow::Stop
    };
    let result = report(&mut watch, "step", 1, 2, "loss 0.5");
    assert!(matches!(result, Err(Error::Interrupted)));
    assert_eq!(seen, [("step".to_string(), 1, 2)]);
}
