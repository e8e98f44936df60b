//! All other tests of a binary once more, with narrower instructions than the widest of the processor.

use std::process::Command;

const VARIABLE: &str = "SNN_INSTRUCTIONS";

#[test]
fn instructions_are_no_wider_than_asked_for() {
    let Ok(asked) = std::env::var(VARIABLE) else {
        return;
    };
    let order = ["portable", "avx2", "avx512"];
    let place = |name: &str| order.iter().position(|other| *other == name);
    let (used, asked) = (place(snn_core::ops::instructions()), place(&asked));
    assert!(used.is_some() && used <= asked, "{used:?} for {asked:?}");
}

#[test]
fn narrower_instructions_pass_the_same_tests() {
    if std::env::var_os(VARIABLE).is_some() {
        return;
    }
    for narrower in ["portable", "avx2"] {
        if narrower == snn_core::ops::instructions() {
            continue;
        }
        let tests = std::env::current_exe().expect("the tests");
        let run = Command::new(tests)
            .env(VARIABLE, narrower)
            .output()
            .expect("started");
        let printed = String::from_utf8_lossy(&run.stdout);
        assert!(run.status.success(), "{narrower}: {printed}");
    }
}
