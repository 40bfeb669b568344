//! An allocator that counts, and a bound on what one input may take.

#![allow(unsafe_code, reason = "an allocator is unsafe to write")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Bytes in use, and how many may be.
static USED: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(usize::MAX);

/// The system's, counted.
pub struct Counting;

impl Counting {
    fn count(&self, bytes: usize) {
        if USED.fetch_add(bytes, Relaxed) + bytes > MOST.load(Relaxed) {
            // Printing must not come here again.
            MOST.store(usize::MAX, Relaxed);
            eprintln!("this input takes more memory than its length allows; the last piece of {bytes} bytes");
            std::process::abort();
        }
    }
}

// SAFETY: everything is handed to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.count(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        self.count(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        USED.fetch_sub(layout.size(), Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        USED.fetch_sub(layout.size(), Relaxed);
        self.count(new_size);
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}

/// Runs what reads an input of so many bytes.
pub fn bounded(input_bytes: usize, read: impl FnOnce()) {
    let most = converters::limits::memory(input_bytes as u64) as usize;
    MOST.store(USED.load(Relaxed).saturating_add(most), Relaxed);
    read();
    MOST.store(usize::MAX, Relaxed);
}
