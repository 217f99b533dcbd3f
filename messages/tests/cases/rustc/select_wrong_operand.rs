use gort::{channel, select};

fn main() {
    let (tx, rx) = channel::<i32>(1);
    select! { recv(tx) -> _ => {}, default => {} }
    select! { send(rx, 1) => {}, default => {} }
    select! { recv(std::sync::mpsc::channel::<i32>().1) -> _ => {}, default => {} }
}
