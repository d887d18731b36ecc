//! Compiles the `.proto` files with protox, so that no `protoc` is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=capsule/v1");
    println!("cargo::rerun-if-changed=sdk");
    let files = protox::compile(
        [
            "capsule/v1/app.proto",
            "capsule/v1/chat.proto",
            "capsule/v1/daemon.proto",
            "capsule/v1/schedules.proto",
            "capsule/v1/tasks.proto",
        ],
        ["."],
    )?;
    tonic_prost_build::configure().compile_fds(files)?;
    // The daemon answers the SDK by the name of the method, so only a client is made: for tests.
    let sdk = protox::compile(["sdk/capsule.proto"], ["."])?;
    tonic_prost_build::configure().build_server(false).compile_fds(sdk)?;
    Ok(())
}
