//! The channels of `async-channel`.

use crate::tasks::{Channel, Shared};
use async_channel::{Receiver, Sender, bounded};

/// Its channels.
pub struct AsyncChannel;

impl Channel for AsyncChannel {
    const RENDEZVOUS: bool = false;

    type Tx<T: Send + 'static> = Sender<T>;
    type Rx<T: Send + 'static> = Receiver<T>;

    fn make<T: Send + 'static>(capacity: usize) -> (Sender<T>, Receiver<T>) {
        bounded(capacity.max(1))
    }

    async fn send<T: Send + 'static>(tx: &Sender<T>, v: T) {
        assert!(tx.send(v).await.is_ok());
    }

    async fn recv<T: Send + 'static>(rx: &mut Receiver<T>) -> Option<T> {
        rx.recv().await.ok()
    }
}

impl Shared for AsyncChannel {
    fn another<T: Send + 'static>(rx: &Receiver<T>) -> Receiver<T> {
        rx.clone()
    }
}
