use gort::go;

fn main() {
    go!(name = 5, || ());
    go!(stack_size = "big", || ());
}
