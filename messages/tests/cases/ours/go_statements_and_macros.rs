use gort::go;

fn main() {
    go!(println!("its arguments would be the goroutine's"));
    go!(let x = 1; drop(x));
    go!(drop(1); drop(2));
    go!(|| drop(1); drop(2));
}
