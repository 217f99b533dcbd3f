//! Looking at the runtime itself (Go's `runtime` and `runtime/pprof`).

use gort_scheduler::proc::Dump;
use std::io;

/// Writes every goroutine of the process with its stack, as Go does when a program crashes.
///
/// ```text
/// goroutine 7 [chan receive, 5 minutes]: "worker"
/// app::next_job(...)
///         /home/me/app/src/main.rs:12
/// app::worker(...)
///         /home/me/app/src/main.rs:30
///         spawned at src/main.rs:41:9
/// ```
///
/// In brackets is what the goroutine does: `running`, `runnable`, or what it waits for and for how many minutes. Then come its
/// name, if it has one, the functions that it is in, innermost first, without the runtime's own, and where it was spawned.
///
/// Goroutines that show the same (name, state, minutes, stack, place of the spawn) are shown together: the first lines of a hundred of them
/// at most, the stack once, and how many there are. Groups come in the order of their smallest numbers.
///
/// The others go on meanwhile, and each is shown as it was at some moment of the call. One that is running on another thread
/// has no stack to show. Memory is needed for groups, not for goroutines; nothing is written before all have been looked at,
/// and `out` may park its goroutine.
///
/// Function names and lines come from the program's symbols and debug information; where these were stripped there are fewer
/// of them, or bare addresses.
///
/// # Errors
///
/// Those of `out`.
///
/// ```
/// let text = gort::run(|| {
///     let hold = gort::chan::<()>(0);
///     let waits = hold.clone();
///     let h = gort::go!(name = "patient", move || waits.recv());
///     # while !gort_scheduler::proc::goroutines().iter().any(|g| g.id == h.id() && g.state == "chan receive") {
///     gort::yield_now(); // until it waits
///     # }
///     let mut text = Vec::new();
///     gort::runtime::dump(&mut text)?;
///     hold.close();
///     h.join().unwrap();
///     String::from_utf8(text).map_err(std::io::Error::other)
/// })?;
/// assert!(text.contains(r#" [chan receive]: "patient""#));
/// assert!(text.contains(" [running]: \"main\""));
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn dump(out: &mut impl io::Write) -> io::Result<()> {
    let mut dump = Dump::capture();
    while let Some(piece) = dump.next_piece() {
        out.write_all(piece.as_bytes())?;
    }
    Ok(())
}
