use gort::go;
use std::rc::Rc;

fn main() {
    let x = Rc::new(1);
    go!(move || println!("{x}"));
    let x = Rc::new(1);
    go!({ println!("{x}") });
    let x = Rc::new(1);
    go!(drop(x));
}
