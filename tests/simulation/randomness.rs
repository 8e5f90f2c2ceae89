//! Takes the randomness out of a process: the operating system's random numbers are the same in each run. The
//! hash tables of the standard library and the scheduler of Tokio take their seeds from them.

#![allow(unsafe_code, reason = "it takes the place of a function of the C library")]

/// Takes the place of `getrandom` of the C library, for the standard library and for all crates.
///
/// # Safety
/// As for the original: `buffer` has room for `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut u8, length: usize, _flags: u32) -> isize {
    // SAFETY: the caller promises the room.
    unsafe { std::ptr::write_bytes(buffer, 0x5a, length) };
    isize::try_from(length).unwrap_or(isize::MAX)
}
