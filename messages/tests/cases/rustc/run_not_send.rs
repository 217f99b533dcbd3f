fn main() {
    let x = std::rc::Rc::new(1);
    gort::run(|| println!("{x}"));
}
