//! One test binary, because linking is slow.
