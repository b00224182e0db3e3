//! A global allocator that counts what the calling thread asks for.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

pub struct Counting;

/// What a piece of code asked of the allocator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Use {
    /// Blocks taken or moved.
    pub calls: u64,
    /// Most bytes held at a time beyond those held before.
    pub peak: u64,
}

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
    static HELD: Cell<i64> = const { Cell::new(0) };
    static PEAK: Cell<i64> = const { Cell::new(0) };
}

/// Runs `act` and says what this thread allocated meanwhile.
pub fn during<T>(act: impl FnOnce() -> T) -> (T, Use) {
    let (calls, held) = (CALLS.get(), HELD.get());
    PEAK.set(held);
    let value = act();
    let peak = u64::try_from(PEAK.get() - held).unwrap_or(0);
    (value, Use { calls: CALLS.get() - calls, peak })
}

fn note(taken: usize, given_back: usize) {
    CALLS.set(CALLS.get() + u64::from(taken > 0));
    HELD.set(HELD.get() + taken as i64 - given_back as i64);
    PEAK.set(PEAK.get().max(HELD.get()));
}

// SAFETY: every call is handed on unchanged to the system's allocator, which keeps the contract; the counters
// are cells of the thread without a destructor, which neither allocate nor unwind.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size(), 0);
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size(), 0);
        // SAFETY: the caller keeps the contract of `alloc_zeroed`, which is the same.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        note(0, layout.size());
        // SAFETY: the caller keeps the contract of `dealloc`, which is the same.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size, layout.size());
        // SAFETY: the caller keeps the contract of `realloc`, which is the same.
        unsafe { System.realloc(block, layout, size) }
    }
}
