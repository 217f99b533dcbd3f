use gort::{chan, select};

fn main() {
    let c = chan::<i32>(1);
    select! { recv(c) -> Some(v) => drop(v), default => {} }
    let n: i32 = select! { recv(c) -> v => v, default => 0 };
    drop(n);
}
