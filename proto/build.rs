//! Compiles the `.proto` files with protox, so that no `protoc` is needed.

use std::path::Path;

use prost::Message as _;

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
    let out = std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?;
    std::fs::write(Path::new(&out).join("v1.bin"), files.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(files)?;
    // The daemon answers the SDK by the name of the method, so only a client is made: for tests.
    let sdk = protox::compile(["sdk/capsule.proto"], ["."])?;
    std::fs::write(Path::new(&out).join("sdk.bin"), sdk.encode_to_vec())?;
    tonic_prost_build::configure().build_server(false).compile_fds(sdk)?;
    Ok(())
}
