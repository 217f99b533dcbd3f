use gort::go;

fn main() {
    go!({ println!("work") }, name = "worker");
    go!(move || println!("work"), stack_size = 1 << 20);
    go!(drop(1), name = "worker");
}
