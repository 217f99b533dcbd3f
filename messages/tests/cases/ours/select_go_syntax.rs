use gort::{chan, select};

fn main() {
    let c = chan::<i32>(1);
    select! {
        v = recv(c) => {},
    }
    select! {
        case recv(c) -> v => {},
    }
}
