//! Overwriting what a computation leaves on the stack.

/// Bytes of stack that are overwritten: more than signing, opening a share file and scaling a share use, also without
/// optimisation. Costs some two microseconds.
const STACK_BYTES: usize = 64 << 10;

/// Runs `work`, then overwrites the stack below. Moves leave copies there, and the curve's arithmetic spills scalars.
///
/// What `work` returns must hold its secrets elsewhere: in [`Locked`](crate::Locked) memory, or on the heap in a type
/// that wipes itself.
pub fn on_wiped_stack<R>(work: impl FnOnce() -> R) -> R {
    let result = in_a_frame_of_its_own(work);
    zeroize::zeroize_stack::<STACK_BYTES>();
    result
}

/// Not inlined: its frame must lie where the overwriting frame will lie.
#[inline(never)]
fn in_a_frame_of_its_own<R>(work: impl FnOnce() -> R) -> R {
    work()
}
