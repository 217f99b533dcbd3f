use gort::go;

fn main() {
    go!(priority = 3, || ());
    go!(name = "worker", priority = 3, || ());
}
