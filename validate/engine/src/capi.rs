//! The C interface of `include/trefoil_engine.h`, which documents it.

#![allow(unsafe_code, reason = "functions that C calls take pointers")]

use std::ffi::{CStr, OsStr, c_char, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use graph::{Feeds, Tensor};

use crate::options::{Cache, Options, Repacking};
use crate::session::{Engine, Session};

/// `trefoil_options`
#[repr(C)]
#[derive(Clone, Copy)]
pub struct COptions {
    encoder_threads: u32,
    decoder_threads: u32,
    f16_cache: c_int,
    repack: c_int,
    exact_activations: c_int,
}

/// `trefoil_tensor`
#[repr(C)]
#[derive(Clone, Copy)]
pub struct CTensor {
    name: *const c_char,
    shape: *const usize,
    rank: usize,
    floats: *const f32,
    integers: *const i64,
}

/// Runs `work`; what it says, or with which panic it ended, goes to `error` as a C string, cut to `error_len`.
fn guarded<T>(error: *mut c_char, error_len: usize, work: impl FnOnce() -> Result<T, String>) -> Option<T> {
    let said = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => return Some(value),
        Ok(Err(message)) => message,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason");
            format!("a fault of the engine: {text}")
        }
    };
    if !error.is_null() && error_len > 0 {
        let mut end = said.len().min(error_len - 1);
        while !said.is_char_boundary(end) {
            end -= 1;
        }
        // SAFETY: the caller gave `error_len` bytes at `error`, and the text and its 0 fit.
        unsafe {
            std::ptr::copy_nonoverlapping(said.as_ptr().cast(), error, end);
            *error.add(end) = 0;
        }
    }
    None
}

/// `count` elements at `data`. Errors: null where some are expected.
///
/// # Safety
/// `data` is null or has `count` elements that stay as they are for `'a`.
unsafe fn slice<'a, T>(name: &str, data: *const T, count: usize) -> Result<&'a [T], String> {
    match (data.is_null(), count) {
        (_, 0) => Ok(&[]),
        (true, _) => Err(format!("{name}: expected {count} elements, found a null pointer")),
        // SAFETY: the caller's promise.
        (false, _) => Ok(unsafe { std::slice::from_raw_parts(data, count) }),
    }
}

#[cfg(unix)]
fn path(bytes: &CStr) -> Result<PathBuf, String> {
    use std::os::unix::ffi::OsStrExt;
    Ok(OsStr::from_bytes(bytes.to_bytes()).into())
}

#[cfg(not(unix))]
fn path(bytes: &CStr) -> Result<PathBuf, String> {
    bytes.to_str().map(|text| OsStr::new(text).into()).map_err(|_| "path: expected UTF-8".to_owned())
}

/// # Safety
/// As the header says: `file` is a C string, `options` null or valid, `error` null or of `error_len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn trefoil_open(
    file: *const c_char,
    options: *const COptions,
    error: *mut c_char,
    error_len: usize,
) -> *mut Engine {
    let opened = guarded(error, error_len, || {
        if file.is_null() {
            return Err("file: expected a path, found a null pointer".to_owned());
        }
        // SAFETY: the caller's promise.
        let (file, options) = unsafe { (path(CStr::from_ptr(file))?, options.as_ref()) };
        let mut wanted = Options::default();
        if let Some(given) = options {
            if given.encoder_threads > 0 {
                wanted.encoder_threads = given.encoder_threads as usize;
            }
            wanted.decoder_threads = Some(given.decoder_threads as usize).filter(|threads| *threads > 0);
            wanted.cache = if given.f16_cache == 0 { Cache::F32 } else { Cache::F16 };
            wanted.repack = match given.repack {
                0 => Repacking::None,
                1 => Repacking::Decoder,
                2 => Repacking::All,
                other => return Err(format!("repack: expected 0, 1 or 2, found {other}")),
            };
            wanted.exact_activations = given.exact_activations != 0;
        }
        Engine::open(&file, &wanted).map_err(|e| e.to_string())
    });
    opened.map_or(std::ptr::null_mut(), |engine| Box::into_raw(Box::new(engine)))
}

/// # Safety
/// `engine` is null or came from [`trefoil_open`] and was not closed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn trefoil_close(engine: *mut Engine) {
    if !engine.is_null() {
        // SAFETY: the caller's promise.
        let engine = unsafe { Box::from_raw(engine) };
        let _ = guarded(std::ptr::null_mut(), 0, || -> Result<(), String> {
            drop(engine);
            Ok(())
        });
    }
}

/// # Safety
/// `engine` is null or an open engine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn trefoil_vocabulary(engine: *const Engine) -> usize {
    // SAFETY: the caller's promise.
    unsafe { engine.as_ref() }.map_or(0, Engine::vocabulary)
}

/// # Safety
/// `engine` is null or an open engine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn trefoil_session_new(engine: *const Engine) -> *mut Session {
    // SAFETY: the caller's promise.
    let engine = unsafe { engine.as_ref() };
    engine.map_or(std::ptr::null_mut(), |engine| Box::into_raw(Box::new(engine.session())))
}

/// # Safety
/// `session` is null or came from [`trefoil_session_new`] and was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn trefoil_session_free(session: *mut Session) {
    if !session.is_null() {
        // SAFETY: the caller's promise.
        drop(unsafe { Box::from_raw(session) });
    }
}

/// # Safety
/// As the header says: every pointer of `inputs` has what its lengths say.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn trefoil_encode(
    session: *mut Session,
    inputs: *const CTensor,
    count: usize,
    error: *mut c_char,
    error_len: usize,
) -> c_int {
    let done = guarded(error, error_len, || {
        // SAFETY: the caller's promise.
        let (session, inputs) = unsafe { (session.as_mut().ok_or(NO_SESSION)?, slice("inputs", inputs, count)?) };
        let mut feeds = Feeds::new();
        for input in inputs {
            if input.name.is_null() {
                return Err("inputs: expected a name, found a null pointer".to_owned());
            }
            // SAFETY: the caller's promise.
            let (name, shape) = unsafe {
                let name = CStr::from_ptr(input.name).to_string_lossy().into_owned();
                let shape = slice(&name, input.shape, input.rank)?;
                (name, shape)
            };
            let len = shape.iter().try_fold(1usize, |n, x| n.checked_mul(*x));
            let len = len.filter(|n| *n < isize::MAX as usize / 8).ok_or(format!("{name}: {shape:?} is too large"))?;
            // SAFETY: the caller's promise.
            let tensor = unsafe {
                match (input.floats.is_null(), input.integers.is_null()) {
                    (false, true) => Tensor::f32(shape, slice(&name, input.floats, len)?.to_vec()),
                    (true, false) => Tensor::i64(shape, slice(&name, input.integers, len)?.to_vec()),
                    _ => return Err(format!("{name}: expected either floats or integers")),
                }
            };
            feeds.insert(name, tensor);
        }
        session.encode(&feeds).map_err(|e| e.to_string())
    });
    if done.is_some() { 0 } else { -1 }
}

const NO_SESSION: &str = "session: expected one, found a null pointer";

/// # Safety
/// As the header says: `ids` has `count` and `logits` `logits_len` elements.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn trefoil_step(
    session: *mut Session,
    ids: *const i64,
    count: usize,
    logits: *mut f32,
    logits_len: usize,
    error: *mut c_char,
    error_len: usize,
) -> c_int {
    let done = guarded(error, error_len, || {
        // SAFETY: the caller's promise.
        let (session, ids) = unsafe { (session.as_mut().ok_or(NO_SESSION)?, slice("ids", ids, count)?) };
        let expected = session.vocabulary() * ids.len();
        if logits.is_null() || logits_len != expected {
            return Err(format!("logits: expected room for {expected} floats, found {logits_len}"));
        }
        let tokens = ids.len() / session.rows().max(1);
        let found = session.step(ids, tokens).map_err(|e| e.to_string())?;
        // SAFETY: as many as were asked for, checked above.
        unsafe { std::ptr::copy_nonoverlapping(found.as_ptr(), logits, found.len()) };
        Ok(())
    });
    if done.is_some() { 0 } else { -1 }
}

/// # Safety
/// As the header says: `rows` has `count` elements.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn trefoil_select(
    session: *mut Session,
    rows: *const usize,
    count: usize,
    error: *mut c_char,
    error_len: usize,
) -> c_int {
    let done = guarded(error, error_len, || {
        // SAFETY: the caller's promise.
        let (session, rows) = unsafe { (session.as_mut().ok_or(NO_SESSION)?, slice("rows", rows, count)?) };
        session.select(rows).map_err(|e| e.to_string())
    });
    if done.is_some() { 0 } else { -1 }
}

/// # Safety
/// `session` is null or a session.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn trefoil_restart(session: *mut Session) {
    // SAFETY: the caller's promise.
    if let Some(session) = unsafe { session.as_mut() } {
        session.restart();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(buffer: &[c_char]) -> String {
        // SAFETY: filled by the functions under test, which end it with 0.
        unsafe { CStr::from_ptr(buffer.as_ptr()) }.to_string_lossy().into_owned()
    }

    #[test]
    fn errors_are_texts_that_fit_the_buffer() {
        let mut error = [1 as c_char; 24];
        // SAFETY: valid arguments, null where that is allowed.
        unsafe {
            let engine = trefoil_open(c"nowhere.gguf".as_ptr(), std::ptr::null(), error.as_mut_ptr(), error.len());
            assert!(engine.is_null() && said(&error).len() == 23, "{}", said(&error));
            assert!(trefoil_open(std::ptr::null(), std::ptr::null(), std::ptr::null_mut(), 0).is_null());
            let mut error = [1 as c_char; 200];
            let options =
                COptions { encoder_threads: 1, decoder_threads: 1, f16_cache: 0, repack: 3, exact_activations: 0 };
            assert!(trefoil_open(c"x".as_ptr(), &options, error.as_mut_ptr(), error.len()).is_null());
            assert_eq!(said(&error), "repack: expected 0, 1 or 2, found 3");
            let none = std::ptr::null_mut();
            assert_eq!(trefoil_encode(none, std::ptr::null(), 0, error.as_mut_ptr(), error.len()), -1);
            assert_eq!(said(&error), NO_SESSION);
            assert_eq!(trefoil_step(none, std::ptr::null(), 0, std::ptr::null_mut(), 0, error.as_mut_ptr(), 200), -1);
            assert_eq!(trefoil_select(none, std::ptr::null(), 0, error.as_mut_ptr(), error.len()), -1);
            trefoil_restart(none);
            trefoil_session_free(none);
            trefoil_close(std::ptr::null_mut());
            assert!(trefoil_session_new(std::ptr::null()).is_null() && trefoil_vocabulary(std::ptr::null()) == 0);
        }
    }

    #[test]
    fn a_panic_is_an_error_and_crosses_nothing() {
        let mut error = [1 as c_char; 100];
        let none = guarded::<()>(error.as_mut_ptr(), error.len(), || panic!("an invariant"));
        assert!(none.is_none());
        assert_eq!(said(&error), "a fault of the engine: an invariant");
    }
}
