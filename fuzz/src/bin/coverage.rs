//! One target under libFuzzer; `CAPSULE_FUZZ_TARGET` says which.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<capsule_fuzz::Target> = LazyLock::new(|| {
    let name = std::env::var("CAPSULE_FUZZ_TARGET").unwrap_or_default();
    capsule_fuzz::target(&name).expect("CAPSULE_FUZZ_TARGET names a target")
});

fuzz_target!(|data: &[u8]| (TARGET.run)(data));
