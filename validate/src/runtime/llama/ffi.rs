//! What llama-cpp-2 does not wrap: the version, and a log that keeps errors.

#![allow(unsafe_code, reason = "calls into C that llama-cpp-2 has no safe form of")]

use std::cell::RefCell;
use std::ffi::{CStr, c_char, c_void};

use llama_cpp_sys_2 as sys;

/// An error is a line or two; a broken file can cause one a tensor.
const LONGEST_LOG_BYTES: usize = 2000;

thread_local! {
    static ERRORS: RefCell<String> = const { RefCell::new(String::new()) };
}

unsafe extern "C" fn keep_errors(level: sys::ggml_log_level, text: *const c_char, _: *mut c_void) {
    if level != sys::GGML_LOG_LEVEL_ERROR || text.is_null() {
        return;
    }
    // SAFETY: llama.cpp passes a C string that lives until this function returns.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    // A panic must not cross C: neither a thread that is ending nor a borrowed log may cause one.
    let _ = ERRORS.try_with(|errors| {
        if let Ok(mut errors) = errors.try_borrow_mut()
            && errors.len() < LONGEST_LOG_BYTES
        {
            errors.push_str(&text);
        }
    });
}

/// Drops llama.cpp's log, and keeps its errors for [`take_errors`] on the thread that caused them.
pub(super) fn silence_log() {
    // SAFETY: the callback touches nothing but a thread-local, so any thread may call it at any time.
    unsafe { sys::llama_log_set(Some(keep_errors), std::ptr::null_mut()) }
}

/// What went wrong on this thread since the last call, in one line.
pub(super) fn take_errors() -> String {
    ERRORS.with(|errors| errors.take().lines().map(str::trim).filter(|l| !l.is_empty()).collect::<Vec<_>>().join("; "))
}

/// Of the compiled-in llama.cpp, as `0.6.0`.
pub(super) fn version() -> String {
    // SAFETY: a C string that is part of the program.
    unsafe { CStr::from_ptr(sys::llama_version()) }.to_string_lossy().into_owned()
}

/// Quantizes a GGUF file as `llama-quantize` does with the mix `Q4_K_M` and without an importance matrix.
pub(super) fn quantize_q4_k_m(from: &CStr, to: &CStr, threads: i32) -> Result<(), String> {
    silence_log();
    // SAFETY: the two C strings outlive the call, and the defaults hold no pointer but null.
    let code = unsafe {
        let mut settings = sys::llama_model_quantize_default_params();
        settings.ftype = sys::LLAMA_FTYPE_MOSTLY_Q4_K_M;
        settings.nthread = threads;
        sys::llama_model_quantize(from.as_ptr(), to.as_ptr(), &settings)
    };
    if code == 0 { Ok(()) } else { Err(take_errors()) }
}
