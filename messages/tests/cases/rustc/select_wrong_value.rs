use gort::{chan, select};

fn main() {
    let c = chan::<i32>(1);
    select! { send(c, "text") => {}, default => {} }
    select! { send(c) => {}, default => {} }
    select! { send(c, from 5) => {}, default => {} }
}
