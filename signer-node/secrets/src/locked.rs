//! Memory for secrets: in pages of its own that are locked against swapping, and wiped before it is given back.
//!
//! Keeping it out of core dumps is the whole process's business (`hardening.rs`): one switch covers every page, also
//! those that a secret only passes through.

use std::{
    fmt,
    ops::{Deref, DerefMut},
};

use zeroize::{Zeroize, optimization_barrier};

/// The system does not let this process lock memory. The operator raises `LimitMEMLOCK` (systemd) or `ulimit -l`.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot lock memory for a secret: {0}; raise the limit of locked memory (LimitMEMLOCK= in the unit, or `ulimit -l`)"
)]
pub struct CannotLock(#[from] region::Error);

/// A secret in locked pages. Neither `Clone` nor printable; wiped on drop.
pub struct Locked<T: Zeroize> {
    // The order matters: unlock the pages (already wiped by `drop`), then free them.
    _guard: region::LockGuard,
    page: Box<Page<T>>,
}

/// Alignment to the page makes sure that no other allocation shares the locked pages and unlocks them on its own end.
#[repr(C, align(4096))]
struct Page<T>(T);

impl<T: Zeroize> Locked<T> {
    /// Moves a secret into locked memory. The move leaves a copy on the caller's stack: call it within
    /// [`on_wiped_stack`](crate::on_wiped_stack).
    pub fn new(secret: T) -> Result<Self, CannotLock> {
        let mut page = Box::new(Page(secret));
        match region::lock(std::ptr::from_ref(&*page), size_of::<Page<T>>()) {
            Ok(guard) => Ok(Self { _guard: guard, page }),
            Err(error) => {
                page.0.zeroize();
                Err(error.into())
            }
        }
    }
}

impl<T: Zeroize> Deref for Locked<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.page.0
    }
}

impl<T: Zeroize> DerefMut for Locked<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.page.0
    }
}

impl<T: Zeroize> Drop for Locked<T> {
    fn drop(&mut self) {
        self.page.0.zeroize();
        // Some types wipe themselves by an ordinary assignment, which the compiler would otherwise remove.
        optimization_barrier(&*self.page);
    }
}

impl<T: Zeroize> fmt::Debug for Locked<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Locked(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_lies_in_locked_pages_of_its_own() {
        let locked_kib = || {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find(|line| line.starts_with("VmLck:")).unwrap();
            line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
        };
        let before = locked_kib();
        let secret = Locked::new([7u8; 32]).unwrap();
        assert_eq!(std::ptr::from_ref(&*secret).addr() % 4096, 0);
        assert_eq!(locked_kib(), before + 4);
        drop(secret);
        assert_eq!(locked_kib(), before);
    }

    #[test]
    fn it_is_wiped_before_it_is_freed() {
        struct Witness<'a>(u8, &'a std::cell::Cell<u8>);
        impl Zeroize for Witness<'_> {
            fn zeroize(&mut self) {
                self.0 = 0;
            }
        }
        impl Drop for Witness<'_> {
            fn drop(&mut self) {
                self.1.set(self.0);
            }
        }
        let seen = std::cell::Cell::new(9);
        drop(Locked::new(Witness(7, &seen)).unwrap());
        assert_eq!(seen.get(), 0);
    }

    #[test]
    fn it_does_not_print() {
        assert_eq!(format!("{:?}", Locked::new([7u8; 32]).unwrap()), "Locked(…)");
    }
}
