//! [`Library`]: what the programs need of a library.

use crate::programs::Kind;
use std::time::{Duration, Instant};

/// A library with goroutines, whatever it calls them, whose operations block. Everything but `start` and `run` is called
/// by goroutines only.
pub trait Library: 'static {
    /// Sends on a channel.
    type Sender<T: Send + 'static>: Clone + Send + 'static;
    /// Receives from a channel; its clones from the same one.
    type Receiver<T: Send + 'static>: Clone + Send + 'static;
    /// A wait group. Each member has a clone.
    type Group: Clone + Send + 'static;

    /// Whether a channel holds no more than it was made for, so that a sender may have to wait.
    const BOUNDED: bool = true;

    /// With what count it makes sense to try that program.
    fn most(_: Kind) -> u64 {
        u64::MAX
    }

    /// Starts the library with that many processors, and with stacks at hand as suits the program, if it keeps any. What
    /// is started already stays.
    fn start(procs: usize, kind: Kind);

    /// Runs a main goroutine and waits for it. Called on a plain thread, one after the other.
    fn run<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T;

    /// Starts a goroutine that nobody joins.
    fn spawn(f: impl FnOnce() + Send + 'static);

    /// Lets others run.
    fn yield_now();

    /// Waits that long.
    fn sleep(d: Duration);

    /// Waits for one tick after the other; where there are no tickers, by sleeping until the next is due.
    fn ticks(period: Duration) -> impl FnMut() {
        let mut metronome = Metronome::new(period);
        move || Self::sleep(metronome.next_pause())
    }

    /// A channel with that capacity; where `BOUNDED` is false, without any.
    fn channel<T: Send + 'static>(capacity: usize) -> (Self::Sender<T>, Self::Receiver<T>);

    /// Sends a value.
    fn send<T: Send + 'static>(tx: &Self::Sender<T>, v: T);

    /// Receives a value: `None` if the channel is closed.
    fn recv<T: Send + 'static>(rx: &Self::Receiver<T>) -> Option<T>;

    /// Closes a channel; this is its only sender.
    fn close<T: Send + 'static>(tx: Self::Sender<T>);

    /// A wait group that waits for so many members.
    fn group(members: u64) -> Self::Group;

    /// A member is done.
    fn done(member: Self::Group);

    /// Waits until all members are done.
    fn wait(group: Self::Group);
}

/// When to go on, in equal steps from its making.
pub struct Metronome {
    period: Duration,
    next: Instant,
}

impl Metronome {
    /// One that steps so far each time.
    pub fn new(period: Duration) -> Metronome {
        Metronome { period, next: Instant::now() }
    }

    /// How long it is until the next step. Those that are over are left out.
    pub fn next_pause(&mut self) -> Duration {
        let now = Instant::now();
        while self.next <= now {
            self.next += self.period;
        }
        self.next - now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_that_are_over_are_left_out() {
        let period = Duration::from_secs(1000);
        let mut metronome = Metronome::new(period);
        assert!(metronome.next_pause() <= period);
        let Some(long_ago) = Instant::now().checked_sub(Duration::from_secs(30)) else { return };
        let mut late = Metronome { period: Duration::from_secs(20), next: long_ago };
        assert!(late.next_pause() <= Duration::from_secs(10));
    }
}
