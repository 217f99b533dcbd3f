use gort::{chan, go};

fn main() {
    let c = chan::<i32>(1);
    go!(|| c.send(1));
}
