//! One binary for all targets, because linking is slow: `TREFOIL_FUZZ` names the target, and `TREFOIL_FUZZ_SEEDS` a folder
//! that takes its first inputs instead.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trefoil_fuzz::Target;

fuzz_target!(
    init: {
        if let Some(folder) = std::env::var_os("TREFOIL_FUZZ_SEEDS") {
            Target::chosen().write_seeds(folder.as_ref());
            std::process::exit(0);
        }
    },
    |data: &[u8]| Target::chosen().run(data)
);
