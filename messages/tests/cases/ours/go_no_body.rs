use gort::go;

fn main() {
    go!();
    go!(name = "worker");
    go!(name = "worker", stack_size = 1 << 20,);
}
