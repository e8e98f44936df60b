//! All other tests of a binary once more, with narrower instructions than the widest of the processor.

use std::process::Command;

use snn_core::ops::{instructions, limit_instructions};

/// Set in the process that this one starts.
const VARIABLE: &str = "SNN_INSTRUCTIONS";

/// To be called by the first test in the order of names: no kernel may have run before.
pub fn bound() {
    if let Ok(asked) = std::env::var(VARIABLE) {
        limit_instructions(&asked).expect("no kernel has run yet");
        let order = ["portable", "avx2", "avx512"];
        let place = |name: &str| order.iter().position(|other| *other == name);
        assert!(place(instructions()).is_some() && place(instructions()) <= place(&asked));
    }
    let again = limit_instructions("sse9").expect_err("no such set");
    assert!(again.to_string().contains("sse9"), "{again}");
}

#[test]
fn narrower_instructions_pass_the_same_tests() {
    if std::env::var_os(VARIABLE).is_some() {
        return;
    }
    for narrower in ["portable", "avx2"] {
        if narrower == instructions() {
            continue;
        }
        let tests = std::env::current_exe().expect("the tests");
        let run = Command::new(tests)
            .args(["--test-threads", "1"])
            .env(VARIABLE, narrower)
            .output()
            .expect("started");
        let printed = String::from_utf8_lossy(&run.stdout);
        assert!(run.status.success(), "{narrower}: {printed}");
    }
}
