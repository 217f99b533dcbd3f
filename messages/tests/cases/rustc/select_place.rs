use gort::{chan, select};

fn main() {
    let c = chan::<i32>(1);
    let constant = Some(1);
    select! { send(c, from constant) => {}, default => {} }
    let mut twice = Some(1);
    select! { send(c, from twice) => {}, send(c, from twice) => {} }
}
