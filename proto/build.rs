//! Compiles the `.proto` files with protox, so that no `protoc` is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=capsule/v1");
    let files = protox::compile(
        [
            "capsule/v1/app.proto",
            "capsule/v1/daemon.proto",
            "capsule/v1/schedules.proto",
            "capsule/v1/tasks.proto",
        ],
        ["."],
    )?;
    tonic_prost_build::configure().compile_fds(files)?;
    Ok(())
}
