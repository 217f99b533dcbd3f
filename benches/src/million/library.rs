//! [`Library`]: what the measurements need of a library.

use super::Kind;

/// A library with goroutines, whatever it calls them. Everything but `start` and `run` is called by goroutines only.
pub(super) trait Library: 'static {
    /// Sends on a channel.
    type Sender: Clone + Send + 'static;
    /// Receives from a channel; its clones from the same one.
    type Receiver: Clone + Send + 'static;
    /// A wait group. Each member has a clone.
    type Group: Clone + Send + 'static;

    /// Starts the library with that many processors, and with stacks at hand as suits the scenario, if it keeps any.
    fn start(procs: usize, kind: Kind);

    /// Runs a main goroutine and waits for it. Called on a plain thread, one after the other.
    fn run<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T;

    /// Starts a goroutine that nobody joins.
    fn spawn(f: impl FnOnce() + Send + 'static);

    /// Lets others run.
    fn yield_now();

    /// An unbuffered channel; where there is none, an unbounded one.
    fn channel() -> (Self::Sender, Self::Receiver);

    /// Sends a value.
    fn send(tx: &Self::Sender, v: u64);

    /// Receives a value: `None` if the channel is closed.
    fn recv(rx: &Self::Receiver) -> Option<u64>;

    /// Closes a channel; this is its only sender.
    fn close(tx: Self::Sender);

    /// A wait group that waits for so many members.
    fn group(members: u64) -> Self::Group;

    /// A member is done.
    fn done(member: Self::Group);

    /// Waits until all members are done.
    fn wait(group: Self::Group);
}
