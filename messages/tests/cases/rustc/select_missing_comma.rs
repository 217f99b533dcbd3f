use gort::{chan, select};

fn main() {
    let c = chan::<i32>(1);
    select! {
        recv(c) -> v => println!("{v:?}")
        default => {}
    }
}
