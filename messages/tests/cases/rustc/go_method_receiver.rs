use gort::{chan, go};

struct S { v: Vec<i32> }
impl S { fn run(&self) {} }

fn main() {
    let s = S { v: vec![] };
    let r = &s;
    go!(r.run());
    drop(s.v);
    let c = chan::<i32>(0);
    go!(c.send(1));
    c.recv();
}
