use gort::go;

fn main() {
    let x = 1;
    go!(x);
    go!(x + 1);
    go!("text");
}
